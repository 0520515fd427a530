// Conversions between float32 and the 16-bit float formats, which travel as bit patterns.
//
// Thread-safe: pure functions. They need the default rounding mode (to nearest, ties to even), and
// are exact about subnormals even where a thread flushes float32 subnormals to zero.
#ifndef KVATTEND_KERNELS_BASE_HALF_H_
#define KVATTEND_KERNELS_BASE_HALF_H_

#include <cstdint>

namespace kvattend {

// The largest finite float16.
inline constexpr float kMaxHalf = 65504.0f;
inline constexpr uint16_t kMaxHalfBits = 0x7bff;

// Exact. A NaN stays a NaN with its payload and becomes quiet.
float HalfToFloat(uint16_t half);

// To nearest, ties to even; magnitudes from 65520 on become infinity. A NaN stays a quiet NaN.
uint16_t FloatToHalf(float value);

// As FloatToHalf, but what would become infinity becomes +-65504.
uint16_t FloatToHalfSaturating(float value);

// Exact.
float Bfloat16ToFloat(uint16_t bfloat16);

// Of a float16 pattern: neither infinity nor NaN.
constexpr bool IsFiniteHalf(uint16_t half) { return (half & 0x7c00) != 0x7c00; }

}  // namespace kvattend

#endif  // KVATTEND_KERNELS_BASE_HALF_H_
