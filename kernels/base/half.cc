#include "kernels/base/half.h"

#include <bit>
#include <cmath>

namespace kvattend {
namespace {

// A float16 has 10 mantissa bits and exponent bias 15, a float32 23 and 127.
constexpr int kMantissaShift = 23 - 10;
constexpr uint32_t kBiasDifference = uint32_t{127 - 15} << 23;
constexpr uint32_t kFloatSign = 0x80000000;
constexpr uint32_t kFloatInfinity = 0x7f800000;
constexpr uint32_t kFloatQuietBit = 0x00400000;
constexpr uint32_t kHalfInfinity = 0x7c00;
constexpr uint32_t kHalfQuietBit = 0x0200;
// 65520: half-way between the largest float16 and the next power of two.
constexpr uint32_t kFirstOverflow = 0x477ff000;
// 2^-14: the smallest normal float16.
constexpr uint32_t kFirstNormal = 0x38800000;

}  // namespace

float HalfToFloat(uint16_t half) {
  const uint32_t sign = (uint32_t{half} << 16) & kFloatSign;
  const uint32_t exponent = half & kHalfInfinity;
  const uint32_t mantissa = half & 0x03ff;
  uint32_t magnitude;
  if (exponent == kHalfInfinity) {
    magnitude = kFloatInfinity | (mantissa << kMantissaShift);
    if (mantissa != 0) magnitude |= kFloatQuietBit;
  } else if (exponent != 0) {
    magnitude = ((exponent | mantissa) << kMantissaShift) + kBiasDifference;
  } else {
    magnitude = std::bit_cast<uint32_t>(static_cast<float>(mantissa) * 0x1p-24f);
  }
  return std::bit_cast<float>(sign | magnitude);
}

uint16_t FloatToHalf(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits & kFloatSign) >> 16;
  uint32_t magnitude = bits & ~kFloatSign;
  if (magnitude > kFloatInfinity) {
    magnitude = kHalfInfinity | kHalfQuietBit | ((magnitude >> kMantissaShift) & 0x03ff);
  } else if (magnitude >= kFirstOverflow) {
    magnitude = kHalfInfinity;
  } else if (magnitude >= kFirstNormal) {
    // Half a unit less one, plus the last bit kept: carries where above half, or at half and odd.
    magnitude += 0x0fff + ((magnitude >> kMantissaShift) & 1);
    magnitude = (magnitude - kBiasDifference) >> kMantissaShift;
  } else {
    // The last place of floats in [0.5, 1) is 2^-24, that of subnormal float16: the addition
    // rounds.
    const float rounded = std::bit_cast<float>(magnitude) + 0.5f;
    magnitude = std::bit_cast<uint32_t>(rounded) - std::bit_cast<uint32_t>(0.5f);
  }
  return static_cast<uint16_t>(sign | magnitude);
}

uint16_t FloatToHalfSaturating(float value) {
  const uint16_t half = FloatToHalf(value);
  return std::isnan(value) || IsFiniteHalf(half) ? half : (half & 0x8000) | kMaxHalfBits;
}

float Bfloat16ToFloat(uint16_t bfloat16) { return std::bit_cast<float>(uint32_t{bfloat16} << 16); }

}  // namespace kvattend
