// A part of a block in shared memory, neither in the GPU's nor in the canonical order: what all
// codec kernels work on. A kernel is a way into a tile, what is done to it there, and a way out.
//
// Thread blocks of kCodecThreads work on one part. In steps that go by tokens, four neighbouring
// threads share a token: thread 4 * token + quarter has the channels of its quarter.
#ifndef KVATTEND_KERNELS_CUDA_CODEC_TILE_CUH_
#define KVATTEND_KERNELS_CUDA_CODEC_TILE_CUH_

#include <cstdint>

#include "kernels/cuda/gpu_block_layout.h"

namespace kvattend::cuda {

inline constexpr int kQuarters = 4;
inline constexpr int kCodecThreads = kTokensPerBlock * kQuarters;

// Stands where a value was not kept: a NaN, which no finite float16 and no code of 8 bits is.
inline constexpr uint16_t kDropped = 0x7fff;

template <int kHeadDim>
struct CodecTile {
  // 16 bytes more than the channels take: keeps the tokens of a channel out of each other's banks.
  static constexpr int kRowElements = kHeadDim + 8;
  static constexpr int kQuarterChannels = kHeadDim / kQuarters;
  static constexpr int kQuarterStride = kQuarterChannels + 4;

  // Float16 patterns or codes of [token][channel].
  alignas(16) uint16_t elements[kTokensPerBlock * kRowElements];
  // sqrt(2)^+-exponent by quarter and channel in it.
  alignas(16) float factors[kQuarters * kQuarterStride];
  uint16_t scales[kTokensPerBlock];
  int8_t exponents[kHeadDim];

  __device__ __forceinline__ uint16_t* row(int token) { return elements + token * kRowElements; }
  __device__ __forceinline__ float& factor(int channel) {
    return factors[channel / kQuarterChannels * kQuarterStride + channel % kQuarterChannels];
  }
};

// The channels of this thread's quarter of its token, two to a word.
template <int kHeadDim>
struct QuarterToken {
  static constexpr int kPairs = kHeadDim / kQuarters / 2;

  __device__ __forceinline__ static int token() {
    return static_cast<int>(threadIdx.x) / kQuarters;
  }
  __device__ __forceinline__ static int quarter() { return threadIdx.x % kQuarters; }

  __device__ __forceinline__ void Load(CodecTile<kHeadDim>& tile) {
    const uint4* const source = Address(tile);
#pragma unroll
    for (int i = 0; i < kPairs / 4; ++i) {
      const uint4 four = source[i];
      pairs[4 * i] = four.x;
      pairs[4 * i + 1] = four.y;
      pairs[4 * i + 2] = four.z;
      pairs[4 * i + 3] = four.w;
    }
  }
  __device__ __forceinline__ void Store(CodecTile<kHeadDim>& tile) const {
    uint4* const destination = Address(tile);
#pragma unroll
    for (int i = 0; i < kPairs / 4; ++i) {
      destination[i] =
          make_uint4(pairs[4 * i], pairs[4 * i + 1], pairs[4 * i + 2], pairs[4 * i + 3]);
    }
  }

  uint32_t pairs[kPairs];

 private:
  __device__ __forceinline__ static uint4* Address(CodecTile<kHeadDim>& tile) {
    return reinterpret_cast<uint4*>(tile.row(token()) + quarter() * kHeadDim / kQuarters);
  }
};

// Sums of a number over the four threads of a token, as a tree over neighbours; all get the sum.
__device__ __forceinline__ float QuarterSum(float x) {
  x += __shfl_xor_sync(~0u, x, 1);
  return x + __shfl_xor_sync(~0u, x, 2);
}

// The sum of `count` (a power of two) numbers get(begin), get(begin + 1) ..., as a tree that adds
// neighbours first. Unrolled: arguments of `get` are constants.
template <int kBegin, int kCount, typename Get>
__device__ __forceinline__ float TreeSum(const Get& get) {
  if constexpr (kCount == 1) {
    return get(kBegin);
  } else {
    return TreeSum<kBegin, kCount / 2>(get) + TreeSum<kBegin + kCount / 2, kCount / 2>(get);
  }
}

// Copies `size_bytes`, a multiple of 16, with all threads of the thread block.
__device__ __forceinline__ void CopyBytes(void* destination, const void* source, int size_bytes) {
  for (int i = threadIdx.x; i < size_bytes / 16; i += kCodecThreads) {
    static_cast<uint4*>(destination)[i] = static_cast<const uint4*>(source)[i];
  }
}
__device__ __forceinline__ void ZeroBytes(void* destination, int size_bytes) {
  for (int i = threadIdx.x; i < size_bytes / 16; i += kCodecThreads) {
    static_cast<uint4*>(destination)[i] = make_uint4(0, 0, 0, 0);
  }
}

// Streams of codes in shared memory. Codes of 2, 4, 8 or 16 bits at multiples of their width.
class CodeWriter {
 public:
  // `words` are zero where codes will be.
  __device__ __forceinline__ CodeWriter(uint32_t* words, uint32_t bit) : words_(words), bit_(bit) {}

  __device__ __forceinline__ void Put(uint32_t code, int bits) {
    pending_ |= code << (bit_ % 32);
    bit_ += bits;
    if (bit_ % 32 == 0) {
      atomicOr(&words_[bit_ / 32 - 1], pending_);
      pending_ = 0;
    }
  }
  // Writes what is left. Words at both ends are shared with other threads.
  __device__ __forceinline__ void Finish() {
    if (bit_ % 32 != 0) atomicOr(&words_[bit_ / 32], pending_);
  }

 private:
  uint32_t* words_;
  uint32_t bit_;
  uint32_t pending_ = 0;
};

class CodeReader {
 public:
  __device__ __forceinline__ CodeReader(const uint32_t* words, uint32_t bit)
      : words_(words), bit_(bit) {}

  __device__ __forceinline__ uint32_t Get(int bits) {
    const uint32_t code = words_[bit_ / 32] >> (bit_ % 32) & ((1u << bits) - 1);
    bit_ += bits;
    return code;
  }

 private:
  const uint32_t* words_;
  uint32_t bit_;
};

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_CODEC_TILE_CUH_
