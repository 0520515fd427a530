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
    const auto is_odd = hn::RebindMask(d, hn::Eq(hn::And(e, one), one));
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
  const auto* const halves = reinterpret_cast<const uint16_t*>(data + part.layout.scale_offset);
  const FloatTag d;
  const auto unit = hn::Set(d, part.level_unit);
  for (int t = 0; t < kBlockTokens; t += static_cast<int>(hn::Lanes(d))) {
    hn::StoreU(hn::Mul(LoadHalves(halves + t), unit), d, scales + t);
  }
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

// Float16 elements of the bitmap words first_word .. last_word - 1 of a part in plain order;
// returns the index of the code after theirs.
inline int ExpandHalves(const NativePart& part, const uint8_t* data, int first_word, int last_word,
                        int next_code, uint16_t* halves) {
  const uint8_t* const codes = data + part.layout.code_offset;
  std::memset(halves, 0, (last_word - first_word) * 64 * sizeof(uint16_t));
  for (int w = first_word; w < last_word; ++w, halves += 64) {
    uint64_t word;
    std::memcpy(&word, data + part.layout.bitmap_offset + 8 * w, 8);
    for (; word != 0; word &= word - 1) {
      std::memcpy(&halves[std::countr_zero(word)], codes + 2 * next_code++, 2);
    }
  }
  return next_code;
}

// The chunk-th kChunk reduction indices of scratch.tile, counted through all lane groups, to
// scratch.float_chunk.
inline void TileToChunk(const NativePart& part, int chunk, AttentionScratch& scratch) {
  const FloatTag d;
  const hn::RebindToSigned<FloatTag> di;
  const int lanes = part.group_lanes();
  const auto offset = hn::Set(d, part.level_bias - static_cast<float>(part.level_offset));
  const auto byte = hn::Set(di, 255);
  const auto level = [&](auto v)
                         HWY_ATTR { return hn::Add(hn::ConvertTo(d, hn::And(v, byte)), offset); };
  const auto* from = reinterpret_cast<const int32_t*>(scratch.tile + chunk * kChunk * lanes);
  float* to = scratch.float_chunk;
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

#endif  // !KVATTEND_AVX3_DL

// 8-bit elements, else as ExpandHalves.
inline int ExpandBytes(const NativePart& part, const uint8_t* data, int first_word, int last_word,
                       int next_code, float* floats) {
  const uint8_t* const codes = data + part.layout.code_offset;
  std::memset(floats, 0, (last_word - first_word) * 64 * sizeof(float));
  for (int w = first_word; w < last_word; ++w, floats += 64) {
    uint64_t word;
    std::memcpy(&word, data + part.layout.bitmap_offset + 8 * w, 8);
    for (; word != 0; word &= word - 1) {
      floats[std::countr_zero(word)] = codes[next_code++] + part.level_bias;
    }
  }
  return next_code;
}

// Gives multiply(elements, first, lane) every kChunk reduction indices (from `first` on) of every
// lane group (from `lane` on) of a block's part.
template <typename Multiply>
void ForEachChunk(const NativePart& part, const uint8_t* data, AttentionScratch& scratch,
                  const Multiply& multiply) {
#if !KVATTEND_AVX3_DL
  if (part.quads) ExpandTile(part, data, scratch);
#endif
  const int lanes = part.group_lanes();
  const FloatElements floats{scratch.float_chunk, lanes};
  const HalfElements halves{scratch.half_chunk, lanes};
  int next_code = 0;
  int chunk = 0;
  for (int lane = 0; lane < part.num_lanes(); lane += lanes) {
    for (int first = 0; first < part.num_reduced(); first += kChunk, ++chunk) {
      const int word = chunk * kChunk;  // one of 64 lanes for each reduction index
#if !KVATTEND_AVX3_DL
      if (part.quads) {
        TileToChunk(part, chunk, scratch);
        multiply(floats, first, lane);
        continue;
      }
#endif
      if (!part.is_sparse()) {
        const auto* const codes = reinterpret_cast<const uint16_t*>(data + part.layout.code_offset);
        multiply(HalfElements{codes + word * 64, lanes}, first, lane);
      } else if (part.bits == 16) {
        next_code = ExpandHalves(part, data, word, word + kChunk, next_code, scratch.half_chunk);
        multiply(halves, first, lane);
      } else {
        next_code = ExpandBytes(part, data, word, word + kChunk, next_code, scratch.float_chunk);
        multiply(floats, first, lane);
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvattend
HWY_AFTER_NAMESPACE();

#endif  // KVATTEND_KERNELS_CPU_EXPAND_INL_H_
