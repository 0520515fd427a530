// Probabilities as B operands of the multiplication with values.
//
// Lane 4 * g + j has the probabilities of tokens 16 * a + 8 * b + g, pair j, at [a][b]; as
// operands, lane 4 * n + j needs those of tokens with g = 2j and 2j + 1, of column n: pair n / 2,
// high parts where n is even and low parts where it is odd. They go through the warp's scratch
// memory.
#ifndef KVATTEND_KERNELS_CUDA_WEIGHT_OPERANDS_CUH_
#define KVATTEND_KERNELS_CUDA_WEIGHT_OPERANDS_CUH_

#include <cstdint>

#include "kernels/cuda/fixed_point.cuh"
#include "kernels/cuda/gpu_block_layout.h"
#include "kernels/cuda/ptx.cuh"

namespace kvattend::cuda {

// Bytes of scratch memory for a column tile.
inline constexpr int kWeightScratchBytes = 8 * 128 + 4 * 32;

// The largest of the 8 lanes with the same j.
__device__ __forceinline__ float MaxOverRows(float x) {
#pragma unroll
  for (int d = 4; d < kLanes; d *= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, d));
  return x;
}

// Fixed-point operands [32 tokens][2] of weights * scales, which are not negative. Returns what a
// unit of theirs is worth.
__device__ __forceinline__ float PackWeights(const float (&weights)[4][2], const float (&scales)[8],
                                             int lane, uint8_t* scratch,
                                             uint32_t (&columns)[2][2]) {
  const int g = lane / 4;
  const int j = lane % 4;
  float product[8];
  float largest = 0.0f;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    product[i] = weights[i / 2][i % 2] * scales[i];
    largest = fmaxf(largest, product[i]);
  }
  largest = MaxOverRows(largest);
  const float inverse = largest > 1e-30f ? __fdividef(kFixedPointRange, largest) : 0.0f;
  const FixedPoint4 first =
      RoundToFixedPoint(product[0], product[1], product[2], product[3], inverse);
  const FixedPoint4 second =
      RoundToFixedPoint(product[4], product[5], product[6], product[7], inverse);
  // 32 bytes of padding every two rows keep the reads free of bank conflicts.
  __syncwarp();
  *reinterpret_cast<uint4*>(scratch + g * 64 + g / 2 * 32 + j * 16) =
      make_uint4(first.high, second.high, first.low, second.low);
  __syncwarp();
#pragma unroll
  for (int odd = 0; odd < 2; ++odd) {
    const uint2 words =
        *reinterpret_cast<const uint2*>(scratch + (2 * j + odd) * 64 + j * 32 + g * 8);
    columns[0][odd] = words.x;
    columns[1][odd] = words.y;
  }
  return largest * (1.0f / kFixedPointRange);
}

// float16 operands [16 tokens][2] of weights.
__device__ __forceinline__ void PackHalfWeights(const float (&w)[4][2], int lane, uint8_t* scratch,
                                                uint32_t (&columns)[4][2]) {
  const int g = lane / 4;
  const int j = lane % 4;
  __syncwarp();
  uint4* out = reinterpret_cast<uint4*>(scratch + g * 128 + g / 2 * 32 + j * 32);
#pragma unroll
  for (int low = 0; low < 2; ++low) {
    out[low] = make_uint4(HalfPart(w[0][0], w[0][1], low), HalfPart(w[1][0], w[1][1], low),
                          HalfPart(w[2][0], w[2][1], low), HalfPart(w[3][0], w[3][1], low));
  }
  __syncwarp();
#pragma unroll
  for (int odd = 0; odd < 2; ++odd) {
    const uint4 words =
        *reinterpret_cast<const uint4*>(scratch + (2 * j + odd) * 128 + j * 32 + g * 16);
    columns[0][odd] = words.x;
    columns[1][odd] = words.y;
    columns[2][odd] = words.z;
    columns[3][odd] = words.w;
  }
}

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_WEIGHT_OPERANDS_CUH_
