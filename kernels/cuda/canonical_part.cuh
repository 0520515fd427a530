// Between tiles of codes and canonical parts (kernels/codec/block_layout.h), and from tiles to
// values.
#ifndef KVATTEND_KERNELS_CUDA_CANONICAL_PART_CUH_
#define KVATTEND_KERNELS_CUDA_CANONICAL_PART_CUH_

#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/codec/equaliser.h"
#include "kernels/cuda/codec_tile.cuh"
#include "kernels/cuda/part_codec.h"

namespace kvattend::cuda {

// Where the codes of this thread's quarter of a token begin, of which it has `count`.
__device__ __forceinline__ uint32_t CanonicalCodeBit(const PartCodec& part, uint32_t count) {
  const int quarter = threadIdx.x % kQuarters;
  const uint32_t token = threadIdx.x / kQuarters;
  uint32_t through = count;
#pragma unroll
  for (int distance = 1; distance < kQuarters; distance *= 2) {
    const uint32_t other = __shfl_up_sync(~0u, through, distance, kQuarters);
    if (quarter >= distance) through += other;
  }
  return (token * part.gpu.kept + through - count) * part.gpu.bits;
}

// Writes a tile of codes to a canonical part, by way of `image`: shared memory for part.size_bytes.
template <int kHeadDim>
__device__ __forceinline__ void StoreCanonicalPart(const PartCodec& part, CodecTile<kHeadDim>& tile,
                                                   uint8_t* image, uint8_t* destination) {
  constexpr int kChannels = kHeadDim / kQuarters;
  ZeroBytes(image, part.size_bytes);
  __syncthreads();
  const int token = threadIdx.x / kQuarters;
  const uint16_t* const row = tile.row(token) + threadIdx.x % kQuarters * kChannels;
  uint32_t count = 0;
#pragma unroll
  for (int byte = 0; byte < kChannels / 8; ++byte) {
    uint32_t mask = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) mask |= (row[8 * byte + i] != kDropped ? 1u : 0) << i;
    count += __popc(mask);
    if (part.gpu.is_sparse()) {
      image[part.bitmap_offset + threadIdx.x * (kChannels / 8) + byte] = static_cast<uint8_t>(mask);
    }
  }
  CodeWriter writer(reinterpret_cast<uint32_t*>(image + part.code_offset),
                    CanonicalCodeBit(part, count));
#pragma unroll 4
  for (int c = 0; c < kChannels; ++c) {
    if (row[c] != kDropped) writer.Put(row[c], part.gpu.bits);
  }
  writer.Finish();
  if (part.has_exponents() && threadIdx.x < kHeadDim) {
    image[part.exponent_offset + threadIdx.x] = static_cast<uint8_t>(tile.exponents[threadIdx.x]);
  }
  if (part.has_scales() && threadIdx.x < kTokensPerBlock) {
    reinterpret_cast<uint16_t*>(image + part.scale_offset)[threadIdx.x] = tile.scales[threadIdx.x];
  }
  __syncthreads();
  CopyBytes(destination, image, part.size_bytes);
}

// The reverse.
template <int kHeadDim>
__device__ __forceinline__ void LoadCanonicalPart(const PartCodec& part, const uint8_t* source,
                                                  uint8_t* image, CodecTile<kHeadDim>& tile) {
  constexpr int kChannels = kHeadDim / kQuarters;
  CopyBytes(image, source, part.size_bytes);
  __syncthreads();
  const uint8_t* const bitmap = image + part.bitmap_offset + threadIdx.x * (kChannels / 8);
  const auto mask_byte = [&](int byte) -> uint32_t {
    return part.gpu.is_sparse() ? bitmap[byte] : 0xff;
  };
  uint32_t count = 0;
#pragma unroll
  for (int byte = 0; byte < kChannels / 8; ++byte) count += __popc(mask_byte(byte));
  CodeReader reader(reinterpret_cast<const uint32_t*>(image + part.code_offset),
                    CanonicalCodeBit(part, count));
  uint16_t* const row = tile.row(threadIdx.x / kQuarters) + threadIdx.x % kQuarters * kChannels;
#pragma unroll 4
  for (int c = 0; c < kChannels; ++c) {
    const bool kept = (mask_byte(c / 8) >> (c % 8) & 1) != 0;
    row[c] = kept ? static_cast<uint16_t>(reader.Get(part.gpu.bits)) : kDropped;
  }
  if (part.has_exponents() && threadIdx.x < kHeadDim) {
    tile.exponents[threadIdx.x] = static_cast<int8_t>(image[part.exponent_offset + threadIdx.x]);
  }
  if (part.has_scales() && threadIdx.x < kTokensPerBlock) {
    tile.scales[threadIdx.x] =
        reinterpret_cast<const uint16_t*>(image + part.scale_offset)[threadIdx.x];
  }
  __syncthreads();
}

// What decodes the codes of a tile. All threads of the thread block make one together; it
// synchronises them.
template <int kHeadDim>
class TileDecoder {
 public:
  __device__ __forceinline__ TileDecoder(const PartCodec& part, CodecTile<kHeadDim>& tile)
      : part_(part), tile_(tile) {
    if (threadIdx.x < kHeadDim) {
      tile.factor(threadIdx.x) =
          part.has_exponents() ? HalfOctavePower(tile.exponents[threadIdx.x]) : 1.0f;
    }
    __syncthreads();
  }

  __device__ __forceinline__ float Value(int token, int channel) const {
    const uint32_t code = tile_.row(token)[channel];
    if (code == kDropped) return 0.0f;
    if (!part_.has_scales()) return __half2float(__ushort_as_half(static_cast<uint16_t>(code)));
    const float scale = __half2float(__ushort_as_half(tile_.scales[token]));
    return Level(code) * scale * tile_.factor(channel);
  }

 private:
  __device__ __forceinline__ float Level(uint32_t code) const {
    if (part_.gpu.bits == 2) {
      const float magnitude = (code & 1) != 0 ? part_.ratio : 1.0f;
      return (code & 2) != 0 ? -magnitude : magnitude;
    }
    return static_cast<float>(code) - static_cast<float>((1 << part_.gpu.bits) - 1) / 2.0f;
  }

  const PartCodec& part_;
  CodecTile<kHeadDim>& tile_;
};

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_CANONICAL_PART_CUH_
