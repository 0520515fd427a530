// Equalising and quantising with SIMD: the exponents, scales and codes of a block.
//
// A group of tokens, as many as a vector has float lanes, is worked on at a time: first all its
// sums, then all its scales in one vector, then its codes. Sums are the reference's trees over
// adjacent channels.
//
// Included once per target (hwy/foreach_target.h); for targets from AVX2 on.
#if defined(KVATTEND_KERNELS_CPU_ENCODE_QUANTISE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVATTEND_KERNELS_CPU_ENCODE_QUANTISE_INL_H_
#undef KVATTEND_KERNELS_CPU_ENCODE_QUANTISE_INL_H_
#else
#define KVATTEND_KERNELS_CPU_ENCODE_QUANTISE_INL_H_
#endif

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "kernels/codec/codec_spec.h"
#include "kernels/codec/quantiser.h"

HWY_BEFORE_NAMESPACE();
namespace kvattend {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using Floats = hn::Vec<FloatTag>;
using HalfTag = hn::Rebind<hwy::float16_t, FloatTag>;
using HalfBitsTag = hn::Rebind<uint16_t, FloatTag>;
constexpr int kLanes = static_cast<int>(hn::MaxLanes(FloatTag()));

HWY_INLINE Floats LoadHalves(const uint16_t* x) {
  return hn::PromoteTo(FloatTag(), hn::BitCast(HalfTag(), hn::LoadU(HalfBitsTag(), x)));
}

// The sums of neighbours: of those in `a`, then of those in `b`. A level of a tree.
HWY_INLINE Floats AddNeighbours(Floats a, Floats b) {
  const FloatTag d;
  return hn::Add(hn::ConcatEven(d, b, a), hn::ConcatOdd(d, b, a));
}

// The first levels of a token's tree: leaf(c) gives channels c to c + kLanes - 1; the result is
// kLanes sums of head_dim / kLanes adjacent channels.
template <class Leaf>
HWY_INLINE Floats SumChannels(int head_dim, Leaf leaf) {
  // Four leaves at a time; stack[i] awaits another sum of as many leaves.
  Floats stack[4];
  int height = 0;
  for (int c = 0, index = 0; c < head_dim; c += 4 * kLanes, ++index) {
    const Floats first = AddNeighbours(leaf(c), leaf(c + kLanes));
    Floats sum = AddNeighbours(first, AddNeighbours(leaf(c + 2 * kLanes), leaf(c + 3 * kLanes)));
    for (int i = index; i % 2 == 1; i /= 2) sum = AddNeighbours(stack[--height], sum);
    stack[height++] = sum;
  }
  return stack[0];
}

// The last levels, of kLanes tokens: the sum of sums[i] in lane i.
HWY_INLINE Floats SumLanes(const Floats (&sums)[kLanes]) {
  Floats level[kLanes];
  for (int i = 0; i < kLanes; ++i) level[i] = sums[i];
  for (int size = kLanes / 2; size > 0; size /= 2) {
    for (int i = 0; i < size; ++i) level[i] = AddNeighbours(level[2 * i], level[2 * i + 1]);
  }
  return level[0];
}

// mean_squares [head_dim] of the 64 values of each channel: trees over adjacent tokens.
inline void MeanSquares(const uint16_t* x, int head_dim, float* mean_squares) {
  const FloatTag d;
  for (int channel = 0; channel < head_dim; channel += kLanes) {
    const auto sum_of_two = [&](int token) HWY_ATTR {
      const Floats a = LoadHalves(x + token * head_dim + channel);
      const Floats b = LoadHalves(x + (token + 1) * head_dim + channel);
      return hn::Add(hn::Mul(a, a), hn::Mul(b, b));
    };
    Floats stack[4];
    int height = 0;
    for (int token = 0, index = 0; token < kBlockTokens; token += 8, ++index) {
      Floats sum = hn::Add(hn::Add(sum_of_two(token), sum_of_two(token + 2)),
                           hn::Add(sum_of_two(token + 4), sum_of_two(token + 6)));
      for (int i = index; i % 2 == 1; i /= 2) sum = hn::Add(stack[--height], sum);
      stack[height++] = sum;
    }
    hn::StoreU(hn::Mul(stack[0], hn::Set(d, 1.0f / kBlockTokens)), d, mean_squares + channel);
  }
}

// A group of kLanes tokens: equalised values [kLanes][head_dim], 0 for dropped channels.
struct TokenGroup {
  int head_dim;
  VectorFormat format;
  HWY_ALIGN float x[kLanes * 256];

  const float* token(int index) const { return x + index * head_dim; }
};

// Fills the group with tokens x [kLanes][head_dim]. Null `factors` [head_dim] are ones, null
// `bitmaps` [kLanes][head_dim / 64] keep everything.
inline void LoadGroup(const uint16_t* x, const float* factors, const uint64_t* bitmaps,
                      TokenGroup* group) {
  const FloatTag d;
  const auto* kept = reinterpret_cast<const uint8_t*>(bitmaps);
  for (int i = 0; i < kLanes * group->head_dim; i += group->head_dim) {
    for (int c = 0; c < group->head_dim; c += kLanes) {
      Floats value = LoadHalves(x + i + c);
      if (factors != nullptr) value = hn::Mul(value, hn::LoadU(d, factors + c));
      if (kept != nullptr) {
        value = hn::IfThenElseZero(hn::LoadMaskBits(d, kept + (i + c) / 8), value);
      }
      hn::Store(value, d, group->x + i + c);
    }
  }
}

// Scales of 2 bits, before rounding: least squares, given which magnitudes take the larger level.
inline Floats TwoBitScales(const TwoBitLevels& levels, const TokenGroup& group) {
  const FloatTag d;
  Floats sums[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    const float* x = group.token(i);
    sums[i] =
        SumChannels(group.head_dim, [&](int c) HWY_ATTR { return hn::Abs(hn::Load(d, x + c)); });
  }
  const Floats sum = SumLanes(sums);
  HWY_ALIGN float borders[kLanes];
  hn::Store(hn::Mul(sum, hn::Set(d, levels.first_border)), d, borders);

  Floats counts[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    const float* x = group.token(i);
    const Floats border = hn::Set(d, borders[i]);
    Floats count = hn::Zero(d);
    sums[i] = SumChannels(group.head_dim, [&](int c) HWY_ATTR {
      const Floats magnitude = hn::Abs(hn::Load(d, x + c));
      const auto is_large = hn::Gt(magnitude, border);
      count = hn::Add(count, hn::IfThenElseZero(is_large, hn::Set(d, 1.0f)));
      return hn::IfThenElseZero(is_large, magnitude);
    });
    counts[i] = count;
  }
  const float ratio = levels.ratio;
  const Floats numerator = hn::Add(sum, hn::Mul(hn::Set(d, ratio - 1.0f), SumLanes(sums)));
  const Floats denominator = hn::Add(hn::Set(d, static_cast<float>(group.format.kept)),
                                     hn::Mul(hn::Set(d, ratio * ratio - 1.0f), SumLanes(counts)));
  return hn::Div(numerator, denominator);
}

// Codes of 4 and 8 bits.
HWY_INLINE Floats CodesAsFloats(Floats x, Floats inverse_scale, float half_range) {
  const FloatTag d;
  const Floats code = hn::Floor(hn::Add(hn::Mul(x, inverse_scale), hn::Set(d, half_range)));
  return hn::Min(hn::Max(code, hn::Zero(d)), hn::Set(d, 2.0f * half_range - 1.0f));
}

// Scales of 4 and 8 bits, before rounding: least squares, given the codes of a first guess that
// puts the largest value at the end of the range.
inline Floats UniformScales(const TokenGroup& group) {
  const FloatTag d;
  const int head_dim = group.head_dim;
  const auto half_range = static_cast<float>(1 << (group.format.bits - 1));
  HWY_ALIGN float largest[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    Floats maximum = hn::Zero(d);
    for (int c = 0; c < head_dim; c += kLanes) {
      maximum = hn::Max(maximum, hn::Abs(hn::Load(d, group.token(i) + c)));
    }
    largest[i] = hn::GetLane(hn::MaxOfLanes(d, maximum));
  }
  const auto is_zero = hn::Eq(hn::Load(d, largest), hn::Zero(d));
  HWY_ALIGN float inverse_scales[kLanes];
  hn::Store(hn::IfThenZeroElse(is_zero, hn::Div(hn::Set(d, half_range), hn::Load(d, largest))), d,
            inverse_scales);

  Floats products[kLanes];
  Floats squares[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    const float* x = group.token(i);
    const Floats inverse_scale = hn::Set(d, inverse_scales[i]);
    Floats sum_of_squares = hn::Zero(d);
    products[i] = SumChannels(head_dim, [&](int c) HWY_ATTR {
      const Floats value = hn::Load(d, x + c);
      const Floats code = CodesAsFloats(value, inverse_scale, half_range);
      const Floats level = hn::Sub(code, hn::Set(d, half_range - 0.5f));
      sum_of_squares = hn::Add(sum_of_squares, hn::Mul(level, level));
      return hn::Mul(value, level);
    });
    squares[i] = sum_of_squares;
  }
  // Dropped channels count as kept zeros, whose level is 0.5. These sums are exact, so that the
  // order does not matter: quarters below 2^24.
  const auto num_dropped = static_cast<float>(head_dim - group.format.kept);
  const Floats sum_of_squares = hn::Sub(SumLanes(squares), hn::Set(d, 0.25f * num_dropped));
  return hn::IfThenZeroElse(is_zero, hn::Div(SumLanes(products), sum_of_squares));
}

// The codes of a token with a scale above 0, those of dropped channels too, least significant bit
// first: words [head_dim * bits / 64].

inline void TwoBitCodes(const float* x, int head_dim, float border, uint64_t* words) {
  const FloatTag d;
  const hn::RebindToSigned<FloatTag> di;
  uint8_t negative[256 / 8];
  uint8_t large[256 / 8];
  for (int c = 0; c < head_dim; c += kLanes) {
    const Floats value = hn::Load(d, x + c);
    hn::StoreMaskBits(di, hn::Lt(hn::BitCast(di, value), hn::Zero(di)), negative + c / 8);
    hn::StoreMaskBits(d, hn::Gt(hn::Abs(value), hn::Set(d, border)), large + c / 8);
  }
  for (int w = 0; w < head_dim / 32; ++w) {
    uint32_t negative_bits;
    uint32_t large_bits;
    std::memcpy(&negative_bits, negative + 4 * w, sizeof(negative_bits));
    std::memcpy(&large_bits, large + 4 * w, sizeof(large_bits));
    words[w] =
        _pdep_u64(negative_bits, 0xaaaaaaaaaaaaaaaa) | _pdep_u64(large_bits, 0x5555555555555555);
  }
}

inline void UniformCodes(const float* x, int head_dim, float inverse_scale, int bits,
                         uint64_t* words) {
  const FloatTag d;
  const hn::RebindToUnsigned<FloatTag> du;
  const hn::Rebind<uint8_t, FloatTag> d8;
  const auto half_range = static_cast<float>(1 << (bits - 1));
  uint8_t codes[256];
  uint8_t* bytes = bits == 8 ? reinterpret_cast<uint8_t*>(words) : codes;
  for (int c = 0; c < head_dim; c += kLanes) {
    const Floats code = CodesAsFloats(hn::Load(d, x + c), hn::Set(d, inverse_scale), half_range);
    // Above 2^23 the last place of a float is 1, so that the code is in the lowest byte.
    const auto shifted = hn::BitCast(du, hn::Add(code, hn::Set(d, 0x1p23f)));
    hn::StoreU(hn::U8FromU32(hn::And(shifted, hn::Set(du, 0xff))), d8, bytes + c);
  }
  if (bits == 8) return;
  for (int w = 0; w < head_dim / 16; ++w) {
    uint64_t codes_of_bytes[2];
    std::memcpy(codes_of_bytes, codes + 16 * w, sizeof(codes_of_bytes));
    words[w] = _pext_u64(codes_of_bytes[0], 0x0f0f0f0f0f0f0f0f) |
               _pext_u64(codes_of_bytes[1], 0x0f0f0f0f0f0f0f0f) << 32;
  }
}

// Quantises a group: its scales [kLanes] as float16 and its codes, kept and dropped channels alike,
// words [kLanes][head_dim * bits / 64].
inline void QuantiseGroup(const TokenGroup& group, uint16_t* scales, uint64_t* words) {
  const auto [kept, bits] = group.format;
  const int head_dim = group.head_dim;
  const TwoBitLevels levels = TwoBitLevelsOf(group.format, head_dim);
  const auto rounded =
      hn::DemoteTo(HalfTag(), bits == 2 ? TwoBitScales(levels, group) : UniformScales(group));
  hn::StoreU(hn::BitCast(HalfBitsTag(), rounded), HalfBitsTag(), scales);
  HWY_ALIGN float exact_scales[kLanes];
  hn::Store(hn::PromoteTo(FloatTag(), rounded), FloatTag(), exact_scales);
  const int num_words = head_dim * bits / 64;
  for (int i = 0; i < kLanes; ++i, words += num_words) {
    const float scale = exact_scales[i];
    if (scale == 0.0f) {
      std::memset(words, 0, num_words * sizeof(uint64_t));
    } else if (bits == 2) {
      TwoBitCodes(group.token(i), head_dim, scale * levels.threshold, words);
    } else {
      UniformCodes(group.token(i), head_dim, 1.0f / scale, bits, words);
    }
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace kvattend
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
