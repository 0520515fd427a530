// 16-bit fixed point on int8 tensor cores: x = 256 * high + low, both int8, in columns of their
// own.
#ifndef KVATTEND_KERNELS_CUDA_FIXED_POINT_CUH_
#define KVATTEND_KERNELS_CUDA_FIXED_POINT_CUH_

#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/ptx.cuh"

namespace kvattend::cuda {

// Largest magnitude; high parts then stay within int8.
inline constexpr float kFixedPointRange = 32000.0f;

// 1.5 * 2^23: a float whose bits count integers around it, in +-2^22.
inline constexpr float kMagic = 12582912.0f;
inline constexpr int32_t kMagicBits = 0x4b400000;

struct FixedPoint4 {
  uint32_t high = 0;
  uint32_t low = 0;
};

// round(x * inverse) of four values, |x * inverse| <= kFixedPointRange. Adding a float does the
// conversion, on the floating-point pipe, and 128 makes byte 1 the high part that goes with a
// signed low one.
__device__ __forceinline__ FixedPoint4 RoundToFixedPoint(float x0, float x1, float x2, float x3,
                                                         float inverse) {
  const uint32_t b0 = __float_as_uint(fmaf(x0, inverse, kMagic + 128.0f));
  const uint32_t b1 = __float_as_uint(fmaf(x1, inverse, kMagic + 128.0f));
  const uint32_t b2 = __float_as_uint(fmaf(x2, inverse, kMagic + 128.0f));
  const uint32_t b3 = __float_as_uint(fmaf(x3, inverse, kMagic + 128.0f));
  // Bytes 0 and 1 of two values, then the same bytes of four.
  const uint32_t b01 = Permute(b0, b1, 0x5140);
  const uint32_t b23 = Permute(b2, b3, 0x5140);
  return {.high = Permute(b01, b23, 0x7632), .low = Permute(b01, b23, 0x5410) ^ 0x80808080};
}

// Accumulators of kColumnTiles products. They start at kMagicBits, so that they can be read as
// floats; sums must stay within +-2^22.
template <int kColumnTiles>
struct FixedPointSums {
  int32_t value[kColumnTiles][4];

  __device__ __forceinline__ FixedPointSums() {
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) value[n][i] = kMagicBits;
    }
  }
  // The sum of row g (r = 0) or g + 8 (r = 1).
  __device__ __forceinline__ float Get(int n, int r) const {
    // 256 * high, less what the low part has too much: exact.
    const float high = fmaf(__int_as_float(value[n][2 * r]), 256.0f, -257.0f * kMagic);
    return high + __int_as_float(value[n][2 * r + 1]);
  }
};
template <>
struct FixedPointSums<0> {};

// Two values as float16, or what is missing from that, as float16.
__device__ __forceinline__ uint32_t HalfPart(float x, float y, bool is_low) {
  __half2 high = __floats2half2_rn(x, y);
  if (is_low) {
    const float2 rounded = __half22float2(high);
    high = __floats2half2_rn(x - rounded.x, y - rounded.y);
  }
  return *reinterpret_cast<const uint32_t*>(&high);
}

__device__ __forceinline__ void UnpackHalves(uint32_t halves, float& low, float& high) {
  const float2 pair = __half22float2(*reinterpret_cast<const __half2*>(&halves));
  low = pair.x;
  high = pair.y;
}

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_FIXED_POINT_CUH_
