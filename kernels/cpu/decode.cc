#include "kernels/cpu/decode.h"

#include <bit>
#include <cstddef>
#include <cstring>

#include "kernels/base/half.h"
#include "kernels/codec/block_part.h"
#include "kernels/codec/quantiser.h"
#include "kernels/codec/reference_codec.h"
#include "kernels/cpu/bit_stream.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/decode.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

#if HWY_TARGET <= HWY_AVX2
#include <immintrin.h>
#endif

HWY_BEFORE_NAMESPACE();
namespace kvattend {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

// Better targets have lower bits; those below AVX2 take the reference.
#if HWY_TARGET <= HWY_AVX2

using FloatTag = hn::ScalableTag<float>;
using Floats = hn::Vec<FloatTag>;
constexpr int kLanes = static_cast<int>(hn::MaxLanes(FloatTag()));

// Lays out a token's codes of up to 8 bits as bytes [head_dim], 0 for dropped channels.
template <int kBits>
void UnpackCodes(const uint8_t* bitmap, int head_dim, BitReader* reader, uint8_t* codes) {
  constexpr uint64_t kLowestBits = 0x0101010101010101;
  constexpr uint64_t kCode = (1 << kBits) - 1;
  for (int c = 0; c < head_dim; c += 8) {
    const uint64_t kept = bitmap[c / 8];
    const uint64_t packed = reader->Take(kBits * std::popcount(kept));
    const uint64_t unpacked = _pdep_u64(packed, _pdep_u64(kept, kLowestBits) * kCode);
    std::memcpy(codes + c, &unpacked, sizeof(unpacked));
  }
}

// Lays out a token's float16 patterns as [head_dim], 0 for dropped channels.
inline void UnpackHalves(const uint8_t* bitmap, int head_dim, BitReader* reader, uint16_t* halves) {
  constexpr uint64_t kLowestBits = 0x0001000100010001;
  for (int c = 0; c < head_dim; c += 4) {
    const uint64_t kept = (bitmap[c / 8] >> (c % 8)) & 0xf;
    const uint64_t packed = reader->Take(16 * std::popcount(kept));
    const uint64_t unpacked = _pdep_u64(packed, _pdep_u64(kept, kLowestBits) * 0xffff);
    std::memcpy(halves + c, &unpacked, sizeof(unpacked));
  }
}

// The levels of kLanes codes of kBits; `two_bit_levels` are those of the four codes of 2 bits.
template <int kBits>
HWY_INLINE Floats LevelsOf(const uint8_t* codes, Floats two_bit_levels) {
  const FloatTag d;
  const hn::Rebind<int32_t, FloatTag> di;
  const auto code = hn::PromoteTo(di, hn::LoadU(hn::Rebind<uint8_t, FloatTag>(), codes));
  if constexpr (kBits == 2) {
    return hn::TableLookupLanes(two_bit_levels, hn::IndicesFromVec(d, code));
  } else {
    return hn::Sub(hn::ConvertTo(d, code), hn::Set(d, ((1 << kBits) - 1) / 2.0f));
  }
}

// All fields of a part, except for the codes, in a form that is quick to use.
struct PartFields {
  PartFields(const PartShape& shape, const uint8_t* part) {
    const VectorLayout& layout = shape.layout;
    const int head_dim = shape.head_dim;
    std::memset(bitmaps, 0xff, sizeof(bitmaps));
    if (layout.has_bitmaps) std::memcpy(bitmaps, part + layout.bitmap_offset, 8 * head_dim);
    for (int c = 0; c < head_dim; ++c) factors[c] = HalfOctavePower(LoadExponent(shape, part, c));
    if (layout.has_scales) std::memcpy(scales, part + layout.scale_offset, sizeof(scales));
    std::memcpy(codes, part + layout.code_offset, layout.size_bytes - layout.code_offset);
  }

  uint8_t bitmaps[kBlockTokens * 256 / 8];
  float factors[256];
  uint16_t scales[kBlockTokens];
  // With room for readers to look past the end.
  uint8_t codes[kBlockTokens * 256 * 2 + 8];
};

// Codes of 2, 4 or 8 bits.
template <int kBits>
void DecodeCodes(const PartFields& fields, int head_dim, Floats two_bit_levels, float* x) {
  const FloatTag d;
  uint8_t codes[kBlockTokens * 256];
  BitReader reader(fields.codes);
  for (int token = 0; token < kBlockTokens; ++token) {
    UnpackCodes<kBits>(fields.bitmaps + token * head_dim / 8, head_dim, &reader,
                       codes + token * head_dim);
  }
  for (int token = 0; token < kBlockTokens; ++token) {
    const Floats scale = hn::Set(d, HalfToFloat(fields.scales[token]));
    for (int c = 0; c < head_dim; c += kLanes) {
      const int i = token * head_dim + c;
      const Floats value = hn::Mul(hn::Mul(LevelsOf<kBits>(codes + i, two_bit_levels), scale),
                                   hn::LoadU(d, fields.factors + c));
      const auto kept = hn::LoadMaskBits(d, fields.bitmaps + i / 8);
      hn::StoreU(hn::IfThenElseZero(kept, value), d, x + i);
    }
  }
}

void DecodeHalves(const PartFields& fields, const PartShape& shape, float* x) {
  const FloatTag d;
  const hn::Rebind<uint16_t, FloatTag> du;
  const hn::Rebind<hwy::float16_t, FloatTag> dh;
  const int head_dim = shape.head_dim;
  uint16_t halves[kBlockTokens * 256];
  if (shape.layout.has_bitmaps) {
    BitReader reader(fields.codes);
    for (int token = 0; token < kBlockTokens; ++token) {
      UnpackHalves(fields.bitmaps + token * head_dim / 8, head_dim, &reader,
                   halves + token * head_dim);
    }
  } else {
    std::memcpy(halves, fields.codes, size_t{2} * kBlockTokens * head_dim);
  }
  for (int i = 0; i < kBlockTokens * head_dim; i += kLanes) {
    hn::StoreU(hn::PromoteTo(d, hn::BitCast(dh, hn::LoadU(du, halves + i))), d, x + i);
  }
}

void Decode(const CodecSpec& codec, VectorRole role, const uint8_t* part, float* x) {
  const PartShape shape(codec, role);
  const PartFields fields(shape, part);
  const int head_dim = shape.head_dim;
  const float ratio = TwoBitMagnitudeRatio(shape.format, head_dim);
  const float level_table[kLanes] = {1.0f, ratio, -1.0f, -ratio};
  const Floats two_bit_levels = hn::LoadU(FloatTag(), level_table);
  switch (shape.format.bits) {
    case 2:
      return DecodeCodes<2>(fields, head_dim, two_bit_levels, x);
    case 4:
      return DecodeCodes<4>(fields, head_dim, two_bit_levels, x);
    case 8:
      return DecodeCodes<8>(fields, head_dim, two_bit_levels, x);
    default:
      return DecodeHalves(fields, shape, x);
  }
}

#else

void Decode(const CodecSpec& codec, VectorRole role, const uint8_t* part, float* x) {
  DecodeReference(codec, role, part, x);
}

#endif  // HWY_TARGET <= HWY_AVX2

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace kvattend
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvattend {

HWY_EXPORT(Decode);

void DecodePart(const CodecSpec& codec, VectorRole role, const uint8_t* part, float* x) {
  HWY_DYNAMIC_DISPATCH(Decode)(codec, role, part, x);
}

}  // namespace kvattend
#endif  // HWY_ONCE
