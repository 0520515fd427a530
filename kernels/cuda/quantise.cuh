// The encoder: prunes, equalises and quantises a tile of float16 patterns, which becomes one of
// codes. Every rounding is the scalar reference's (kernels/codec/reference_codec.cc): compile
// without contraction of multiply-add.
#ifndef KVATTEND_KERNELS_CUDA_QUANTISE_CUH_
#define KVATTEND_KERNELS_CUDA_QUANTISE_CUH_

#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/codec/equaliser.h"
#include "kernels/cuda/codec_tile.cuh"
#include "kernels/cuda/part_codec.h"
#include "kernels/cuda/prune.cuh"

namespace kvattend::cuda {

// Step 2: exponents of all channels, and the factors that divide by them. `scratch` is for
// kCodecThreads * 2 floats. Synchronises the thread block.
template <int kHeadDim>
__device__ __forceinline__ void Equalise(CodecTile<kHeadDim>& tile, float* scratch) {
  // A thread sums over a run of tokens of two channels.
  constexpr int kRun = kHeadDim / 8;
  constexpr int kRuns = kTokensPerBlock / kRun;
  const int pair = threadIdx.x % (kHeadDim / 2);
  const int run = threadIdx.x / (kHeadDim / 2);
  float2 values[kRun];
#pragma unroll
  for (int t = 0; t < kRun; ++t) {
    values[t] =
        __half22float2(*reinterpret_cast<const __half2*>(tile.row(run * kRun + t) + 2 * pair));
  }
  scratch[run * kHeadDim + 2 * pair] =
      TreeSum<0, kRun>([&](int t) { return values[t].x * values[t].x; });
  scratch[run * kHeadDim + 2 * pair + 1] =
      TreeSum<0, kRun>([&](int t) { return values[t].y * values[t].y; });
  __syncthreads();
  if (threadIdx.x < kHeadDim) {
    const int channel = threadIdx.x;
    const float sum = TreeSum<0, kRuns>([&](int i) { return scratch[i * kHeadDim + channel]; });
    const int exponent = EqualiserExponent(sum / kTokensPerBlock);
    tile.exponents[channel] = static_cast<int8_t>(exponent);
    tile.factor(channel) = HalfOctavePower(-exponent);
  }
  __syncthreads();
}

// Step 3: scales and codes of a thread's quarter of a token.
template <int kHeadDim>
class Quantiser {
 public:
  // `z` are the equalised values, +0 where the channel is not kept.
  __device__ __forceinline__ Quantiser(const PartCodec& part, const float (&z)[kHeadDim / 4])
      : part_(part), z_(z) {}

  // The scale as float16.
  __device__ __forceinline__ uint16_t Scale() const {
    const float scale = part_.gpu.bits == 2 ? TwoBitScale() : UniformScale();
    return __half_as_ushort(__float2half_rn(scale));
  }
  // `scale` is the one that Scale gave.
  __device__ __forceinline__ void Codes(float scale, uint32_t (&pairs)[kHeadDim / 8]) const {
    if (part_.gpu.bits == 2) {
      const float border = scale * part_.threshold;
      MakePairs(scale, pairs, [&](float z) {
        return (__float_as_uint(z) >> 30 & 2) | (fabsf(z) > border ? 1 : 0);
      });
    } else {
      const float inverse_scale = 1.0f / scale;
      MakePairs(scale, pairs,
                [&](float z) { return static_cast<uint32_t>(UniformCode(z, inverse_scale)); });
    }
  }

 private:
  static constexpr int kChannels = kHeadDim / 4;

  template <typename MakeCode>
  __device__ __forceinline__ void MakePairs(float scale, uint32_t (&pairs)[kChannels / 2],
                                            const MakeCode& make_code) const {
#pragma unroll
    for (int i = 0; i < kChannels / 2; ++i) {
      pairs[i] = scale == 0.0f ? 0 : make_code(z_[2 * i]) | make_code(z_[2 * i + 1]) << 16;
    }
  }

  __device__ __forceinline__ float TwoBitScale() const {
    const float sum = QuarterSum(TreeSum<0, kChannels>([&](int c) { return fabsf(z_[c]); }));
    const float border = sum * part_.first_border;
    const float large = QuarterSum(
        TreeSum<0, kChannels>([&](int c) { return fabsf(z_[c]) > border ? fabsf(z_[c]) : 0.0f; }));
    float num_large = 0.0f;
#pragma unroll
    for (int c = 0; c < kChannels; ++c) num_large += fabsf(z_[c]) > border ? 1.0f : 0.0f;
    num_large = QuarterSum(num_large);
    const float ratio = part_.ratio;
    return (sum + (ratio - 1.0f) * large) /
           (static_cast<float>(part_.gpu.kept) + (ratio * ratio - 1.0f) * num_large);
  }

  __device__ __forceinline__ float half_range() const {
    return static_cast<float>(1 << (part_.gpu.bits - 1));
  }
  __device__ __forceinline__ float UniformCode(float z, float inverse_scale) const {
    const float half = half_range();
    return fminf(fmaxf(floorf(z * inverse_scale + half), 0.0f), 2.0f * half - 1.0f);
  }

  __device__ __forceinline__ float UniformScale() const {
    float largest = 0.0f;
#pragma unroll
    for (int c = 0; c < kChannels; ++c) largest = fmaxf(largest, fabsf(z_[c]));
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 2));
    const float inverse_scale = half_range() / largest;
    const float middle = half_range() - 0.5f;
    // Exact, at most 256 * 127.5^2 in quarters, so its order is free.
    float sum_of_squares = 0.0f;
    const float products = QuarterSum(TreeSum<0, kChannels>([&](int c) {
      const float level = UniformCode(z_[c], inverse_scale) - middle;
      sum_of_squares += level * level;
      return z_[c] * level;
    }));
    // A channel that was not kept counts as 0, whose level is one half.
    sum_of_squares = QuarterSum(sum_of_squares) -
                     0.25f * static_cast<float>(part_.gpu.head_dim - part_.gpu.kept);
    return largest == 0.0f ? 0.0f : products / sum_of_squares;
  }

  const PartCodec& part_;
  const float (&z_)[kChannels];
};

// The values of a token's quarter, equalised by the tile's factors.
template <int kHeadDim>
__device__ __forceinline__ void EqualisedValues(const QuarterToken<kHeadDim>& token, bool equalise,
                                                CodecTile<kHeadDim>& tile,
                                                float (&z)[kHeadDim / 4]) {
#pragma unroll
  for (int i = 0; i < kHeadDim / 8; ++i) {
    const float2 pair = __half22float2(AsHalf2(token.pairs[i]));
    z[2 * i] = pair.x;
    z[2 * i + 1] = pair.y;
  }
  if (!equalise) return;
  const float4* const factors =
      reinterpret_cast<const float4*>(&tile.factor(token.quarter() * (kHeadDim / 4)));
#pragma unroll
  for (int i = 0; i < kHeadDim / 16; ++i) {
    const float4 four = factors[i];
    z[4 * i] *= four.x;
    z[4 * i + 1] *= four.y;
    z[4 * i + 2] *= four.z;
    z[4 * i + 3] *= four.w;
  }
}

// Encodes the tile in place. `scratch` as for Equalise. The tile must be visible to all threads,
// and is so again at the end.
template <int kHeadDim>
__device__ __forceinline__ void EncodeTile(const PartCodec& part, CodecTile<kHeadDim>& tile,
                                           float* scratch) {
  if (part.has_exponents()) Equalise(tile, scratch);
  QuarterToken<kHeadDim> token;
  token.Load(tile);
  KeptMask<kHeadDim> mask;
  const bool is_sparse = part.gpu.is_sparse();
  if (is_sparse) {
    mask = Pruner<kHeadDim>(token).Keep(part.gpu.kept);
#pragma unroll
    for (int i = 0; i < kHeadDim / 8; ++i) token.pairs[i] &= mask.Pair(i);
  }
  if (part.has_scales()) {
    float z[kHeadDim / 4];
    EqualisedValues(token, part.has_exponents(), tile, z);
    const Quantiser<kHeadDim> quantiser(part, z);
    const uint16_t scale = quantiser.Scale();
    if (token.quarter() == 0) tile.scales[token.token()] = scale;
    quantiser.Codes(__half2float(__ushort_as_half(scale)), token.pairs);
  }
  if (is_sparse) {
    constexpr uint32_t kDroppedPair = kDropped * 0x10001u;
#pragma unroll
    for (int i = 0; i < kHeadDim / 8; ++i) {
      const uint32_t kept = mask.Pair(i);
      token.pairs[i] = (token.pairs[i] & kept) | (kDroppedPair & ~kept);
    }
  }
  token.Store(tile);
  __syncthreads();
}

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_QUANTISE_CUH_
