// Blocks and pages to what the multiplications take: tiles of bytes and chunks of float32.
// Compiled once for each instruction set (no include guard of the usual kind).
#if defined(KVATTEND_KERNELS_CPU_EXPAND_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVATTEND_KERNELS_CPU_EXPAND_INL_H_
#undef KVATTEND_KERNELS_CPU_EXPAND_INL_H_
#else
#define KVATTEND_KERNELS_CPU_EXPAND_INL_H_
#endif

#include <bit>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "kernels/cpu/attention_scratch.h"
#include "kernels/cpu/avx3_dl-inl.h"
#include "kernels/cpu/native_block.h"

HWY_BEFORE_NAMESPACE();
namespace kvattend {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using HalfTag = hn::Rebind<hwy::float16_t, FloatTag>;

inline void HalvesToFloats(const uint16_t* halves, int count, float* floats) {
  const FloatTag d;
  const HalfTag half;
  const auto* const from = reinterpret_cast<const hwy::float16_t*>(halves);
  for (int i = 0; i < count; i += static_cast<int>(hn::Lanes(d))) {
    hn::StoreU(hn::PromoteTo(d, hn::LoadU(half, from + i)), d, floats + i);
  }
}

// multipliers[c] = 2^(exponents[c] / 2).
inline void ExpandExponents(const int8_t* exponents, int count, float* multipliers) {
  const FloatTag d;
  const hn::RebindToSigned<FloatTag> di;
  const hn::Rebind<int8_t, FloatTag> d8;
  const auto one = hn::Set(di, 1);
  for (int i = 0; i < count; i += static_cast<int>(hn::Lanes(d))) {
    const auto e = hn::PromoteTo(di, hn::LoadU(d8, exponents + i));
    const auto power =
        hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::ShiftRight<1>(e), hn::Set(di, 127))));
    const auto is_odd =
        hn::MaskFromVec(hn::BitCast(d, hn::VecFromMask(di, hn::Eq(hn::And(e, one), one))));
    const auto root = hn::IfThenElse(is_odd, hn::Set(d, 1.41421356f), hn::Set(d, 1.0f));
    hn::StoreU(hn::Mul(power, root), d, multipliers + i);
  }
}

// The tokens' scales times the part's level unit; ones for formats without scales.
inline void ExpandScales(const NativePart& part, const uint8_t* data, float* scales) {
  if (!part.layout.has_scales) {
    for (int t = 0; t < kBlockTokens; ++t) scales[t] = 1.0f;
    return;
  }
  HalvesToFloats(reinterpret_cast<const uint16_t*>(data + part.layout.scale_offset), kBlockTokens,
                 scales);
  for (int t = 0; t < kBlockTokens; ++t) scales[t] *= part.level_unit;
}

#if !KVATTEND_AVX3_DL

// The stored bytes (see NativePart) of all codes of a part in quad order.
inline void UnpackCodes(const NativePart& part, const uint8_t* data, uint8_t* codes) {
  const int group_bytes = 8 * part.bits;
  data += part.layout.code_offset;
  for (int g = 0; g < part.kept; ++g, data += group_bytes, codes += 64) {
    if (part.bits == 8) {
      std::memcpy(codes, data, 64);
    } else if (part.bits == 4) {
      for (int i = 0; i < 32; ++i) {
        codes[i] = static_cast<uint8_t>((data[i] & 15) << 1);
        codes[32 + i] = static_cast<uint8_t>((data[i] >> 4) << 1);
      }
    } else {
      for (int k = 0; k < 64; ++k) codes[k] = part.levels[(data[k % 16] >> (k / 16 * 2)) & 3];
    }
  }
}

// A part in quad order to scratch.tile.
inline void ExpandTile(const NativePart& part, const uint8_t* data, AttentionScratch& scratch) {
  if (!part.is_sparse()) {
    UnpackCodes(part, data, scratch.tile);
    return;
  }
  UnpackCodes(part, data, scratch.codes);
  std::memset(scratch.tile, part.level_offset, kBlockTokens * part.head_dim);
  const uint8_t* next = scratch.codes;
  for (int w = 0; w < part.head_dim; ++w) {
    uint64_t word;
    std::memcpy(&word, data + part.layout.bitmap_offset + 8 * w, 8);
    for (; word != 0; word &= word - 1) scratch.tile[64 * w + std::countr_zero(word)] = *next++;
  }
}

// The chunk-th kChunk reduction indices of a lane group in scratch.tile to scratch.chunk.
inline void TileToChunk(const NativePart& part, int chunk, AttentionScratch& scratch) {
  const FloatTag d;
  const hn::RebindToSigned<FloatTag> di;
  const int lanes = part.group_lanes();
  const auto offset = hn::Set(d, part.level_bias - static_cast<float>(part.level_offset));
  const auto byte = hn::Set(di, 255);
  const auto level = [&](auto v)
                         HWY_ATTR { return hn::Add(hn::ConvertTo(d, hn::And(v, byte)), offset); };
  const auto* from = reinterpret_cast<const int32_t*>(scratch.tile + chunk * kChunk * lanes);
  float* to = scratch.chunk;
  for (int quad = 0; quad < kChunk / 4; ++quad, from += lanes, to += 4 * lanes) {
    for (int l = 0; l < lanes; l += static_cast<int>(hn::Lanes(d))) {
      const auto four = hn::LoadU(di, from + l);
      hn::StoreU(level(four), d, to + l);
      hn::StoreU(level(hn::ShiftRight<8>(four)), d, to + lanes + l);
      hn::StoreU(level(hn::ShiftRight<16>(four)), d, to + 2 * lanes + l);
      hn::StoreU(level(hn::ShiftRight<24>(four)), d, to + 3 * lanes + l);
    }
  }
}

// Kept elements of the bitmap words first_word .. last_word - 1 of a part in plain order; returns
// the index of the code after theirs.
inline int ExpandSparseWords(const NativePart& part, const uint8_t* data, int first_word,
                             int last_word, int next_code, float* floats) {
  const uint8_t* const codes = data + part.layout.code_offset;
  for (int w = first_word; w < last_word; ++w, floats += 64) {
    uint64_t word;
    std::memcpy(&word, data + part.layout.bitmap_offset + 8 * w, 8);
    if (part.bits == 8) {
      std::memset(floats, 0, 64 * sizeof(float));
      for (; word != 0; word &= word - 1) {
        floats[std::countr_zero(word)] = codes[next_code++] + part.level_bias;
      }
    } else {
      uint16_t halves[64] = {};
      for (; word != 0; word &= word - 1) {
        std::memcpy(&halves[std::countr_zero(word)], codes + 2 * next_code++, 2);
      }
      HalvesToFloats(halves, 64, floats);
    }
  }
  return next_code;
}

#endif  // !KVATTEND_AVX3_DL

// Reads a block's part chunk by chunk: kChunk reduction indices of a lane group, then the next
// ones, then the next lane group.
class BlockChunks {
 public:
  BlockChunks(const NativePart& part, const uint8_t* data, AttentionScratch& scratch)
      : part_(part), data_(data), scratch_(scratch) {
#if !KVATTEND_AVX3_DL
    if (part.quads) ExpandTile(part, data, scratch);
#endif
  }

  // The next chunk to scratch.chunk [kChunk][group_lanes].
  void Next() {
#if !KVATTEND_AVX3_DL
    if (part_.quads) return TileToChunk(part_, chunk_++, scratch_);
#endif
    constexpr int kWords = kChunk;  // of 64 lanes
    if (part_.is_sparse()) {
      next_code_ = ExpandSparseWords(part_, data_, chunk_ * kWords, (chunk_ + 1) * kWords,
                                     next_code_, scratch_.chunk);
    } else {
      const uint8_t* const codes = data_ + part_.layout.code_offset;
      HalvesToFloats(reinterpret_cast<const uint16_t*>(codes) + chunk_ * kWords * 64, kWords * 64,
                     scratch_.chunk);
    }
    ++chunk_;
  }

 private:
  const NativePart& part_;
  const uint8_t* const data_;
  AttentionScratch& scratch_;
  int chunk_ = 0;
  int next_code_ = 0;
};

// kChunk channels of a segment's page keys, from first_channel on, to scratch.chunk
// [kChunk][lanes]; returns lanes, 16 for each page.
inline int ExpandPageKeys(const Segment& segment, int first_channel, AttentionScratch& scratch) {
  const int num_pages = hwy::DivCeil(segment.num_tokens, kPageTokens);
  const int lanes = num_pages * kPageTokens;
  for (int p = 0; p < num_pages; ++p) {
    const uint16_t* const from = segment.page_keys[p] + first_channel * kPageTokens;
    for (int c = 0; c < kChunk; ++c) {
      HalvesToFloats(from + c * kPageTokens, kPageTokens,
                     scratch.chunk + c * lanes + p * kPageTokens);
    }
  }
  return lanes;
}

}  // namespace HWY_NAMESPACE
}  // namespace kvattend
HWY_AFTER_NAMESPACE();

#endif  // KVATTEND_KERNELS_CPU_EXPAND_INL_H_
