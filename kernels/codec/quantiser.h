// The numbers of the codec's arithmetic that every encoder and decoder shares; docs/formats.md says
// how they are used.
//
// Thread-safe: constants and pure functions.
#ifndef KVATTEND_KERNELS_CODEC_QUANTISER_H_
#define KVATTEND_KERNELS_CODEC_QUANTISER_H_

#include <bit>
#include <cstdint>

#include "kernels/codec/codec_spec.h"

namespace kvattend {

// The equaliser's exponents, in half octaves: the mean square of 64 float16 values, unless it is 0,
// lies between 2^-54 (one value of 2^-24) and 2^32 (all values near 65504).
inline constexpr int kMinExponent = -54;
inline constexpr int kMaxExponent = 32;

// sqrt(2)^exponent, rounded to float32, for |exponent| <= 54. Powers of two are exact; the others
// have the mantissa of the float32 nearest to sqrt(2).
constexpr float HalfOctavePower(int exponent) {
  const uint32_t mantissa = (exponent & 1) != 0 ? 0x3504f3 : 0;
  return std::bit_cast<float>((static_cast<uint32_t>(127 + (exponent >> 1)) << 23) | mantissa);
}

// The exponent of a channel whose values' mean square is given: its log2 to the nearest integer; 0
// for 0.
constexpr int EqualiserExponent(float mean_square) {
  if (mean_square == 0.0f) return 0;
  // 0x3504f4 is the smallest mantissa not below sqrt(2): from there on the addition carries.
  constexpr uint32_t kRoundUp = 0x800000 - 0x3504f4;
  return static_cast<int>((std::bit_cast<uint32_t>(mean_square) + kRoundUp) >> 23) - 127;
}

// What 2-bit codes of a format need.
struct TwoBitLevels {
  // Levels are +-s and +-ratio * s; ratio * s is exact in float32 for a float16 s.
  float ratio;
  // (1 + ratio) / 2: above this many s a magnitude takes the larger level. Exact likewise.
  float threshold;
  // The same border for the first guess, in sums of the magnitudes that a token keeps. Chosen so
  // that one refinement comes within 2 % of the least error on Gaussian vectors and, after pruning,
  // spares the channels that the equaliser brought far below the others.
  float first_border;
};

// For formats of 2 bits.
inline TwoBitLevels TwoBitLevelsOf(const VectorFormat& format, int head_dim) {
  const float ratio = TwoBitMagnitudeRatio(format, head_dim);
  const float mean_to_scale = ratio == 1.5f ? 0.8125f : ratio == 2.0f ? 0.71875f : 0.625f;
  const float threshold = (1.0f + ratio) / 2.0f;
  return {.ratio = ratio,
          .threshold = threshold,
          .first_border = mean_to_scale * threshold / static_cast<float>(format.kept)};
}

}  // namespace kvattend

#endif  // KVATTEND_KERNELS_CODEC_QUANTISER_H_
