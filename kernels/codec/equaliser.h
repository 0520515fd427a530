// The equaliser's arithmetic: exponents of key channels in half octaves; docs/formats.md says how
// they are used.
//
// Thread-safe: constants and pure functions, on devices too.
#ifndef KVATTEND_KERNELS_CODEC_EQUALISER_H_
#define KVATTEND_KERNELS_CODEC_EQUALISER_H_

#include <bit>
#include <cstdint>

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

}  // namespace kvattend

#endif  // KVATTEND_KERNELS_CODEC_EQUALISER_H_
