// Step 1 of the encoder: which channels of a token are kept.
#ifndef KVATTEND_KERNELS_CUDA_PRUNE_CUH_
#define KVATTEND_KERNELS_CUDA_PRUNE_CUH_

#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/codec_tile.cuh"

namespace kvattend::cuda {

// Channels of this thread's quarter: bit i % 16 of word i / 16 stands for the lower, bit
// i % 16 + 16 for the upper channel of pair i.
template <int kHeadDim>
struct KeptMask {
  static constexpr int kPairs = QuarterToken<kHeadDim>::kPairs;
  static constexpr int kWords = (kPairs + 15) / 16;

  uint32_t words[kWords];

  // All bits of each half of a word, or none.
  __device__ __forceinline__ uint32_t Pair(int i) const {
    // Brings the bits to the tops of the halves, and spreads them over these.
    uint32_t mask;
    asm("prmt.b32 %0, %1, 0, 0xbb99;" : "=r"(mask) : "r"(words[i / 16] << (15 - i % 16)));
    return mask;
  }
  __device__ __forceinline__ int count() const {
    int total = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) total += __popc(words[w]);
    return total;
  }
};

// Over the four threads of a token.
__device__ __forceinline__ __half2 QuarterSum(__half2 x) {
  x = __hadd2(x, __shfl_xor_sync(~0u, x, 1));
  return __hadd2(x, __shfl_xor_sync(~0u, x, 2));
}

__device__ __forceinline__ __half2 AsHalf2(uint32_t bits) {
  return *reinterpret_cast<const __half2*>(&bits);
}

template <int kHeadDim>
class Pruner {
 public:
  __device__ __forceinline__ explicit Pruner(const QuarterToken<kHeadDim>& token) {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) magnitudes_[i] = AsHalf2(token.pairs[i] & 0x7fff7fff);
  }

  // The `kept` channels of largest magnitude; among equals the lower ones.
  __device__ __forceinline__ KeptMask<kHeadDim> Keep(int kept) const {
    const __half2 border = AsHalf2(0x00010001u * Border(kept));
    KeptMask<kHeadDim> above;
    KeptMask<kHeadDim> equal;
#pragma unroll
    for (int w = 0; w < KeptMask<kHeadDim>::kWords; ++w) above.words[w] = equal.words[w] = 0;
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const uint32_t bits = 0x00010001u << (i % 16);
      above.words[i / 16] |= __hgt2_mask(magnitudes_[i], border) & bits;
      equal.words[i / 16] |= __heq2_mask(magnitudes_[i], border) & bits;
    }
    LimitTies(kept, above, equal);
#pragma unroll
    for (int w = 0; w < KeptMask<kHeadDim>::kWords; ++w) above.words[w] |= equal.words[w];
    return above;
  }

 private:
  static constexpr int kPairs = QuarterToken<kHeadDim>::kPairs;

  // The kept-th largest magnitude of the token, found bit by bit: the largest pattern that at least
  // `kept` magnitudes reach. Patterns of float16 magnitudes are ordered as their values are.
  __device__ __forceinline__ uint32_t Border(int kept) const {
    const __half wanted = __int2half_rn(kept);
    uint32_t border = 0;
#pragma unroll 1
    for (uint32_t bit = 0x4000; bit != 0; bit >>= 1) {
      const __half2 candidate = AsHalf2(0x00010001u * (border | bit));
      // Counts are small integers: exact in float16.
      __half2 even = __hge2(magnitudes_[0], candidate);
      __half2 odd = __hge2(magnitudes_[1], candidate);
#pragma unroll
      for (int i = 2; i < kPairs; i += 2) {
        even = __hadd2(even, __hge2(magnitudes_[i], candidate));
        odd = __hadd2(odd, __hge2(magnitudes_[i + 1], candidate));
      }
      const __half2 count = QuarterSum(__hadd2(even, odd));
      if (__hge(__hadd(__low2half(count), __high2half(count)), wanted)) border |= bit;
    }
    return border;
  }

  // Takes the highest channels out of `equal` until all four threads together keep `kept`.
  __device__ __forceinline__ static void LimitTies(int kept, const KeptMask<kHeadDim>& above,
                                                   KeptMask<kHeadDim>& equal) {
    // Counts of both masks of the threads up to this one.
    uint32_t counts = above.count() | equal.count() << 16;
    const int own_equal = static_cast<int>(counts >> 16);
    const int quarter = threadIdx.x % kQuarters;
#pragma unroll
    for (int distance = 1; distance < kQuarters; distance *= 2) {
      const uint32_t other = __shfl_up_sync(~0u, counts, distance, kQuarters);
      if (quarter >= distance) counts += other;
    }
    const int all_above = __shfl_sync(~0u, counts, kQuarters - 1, kQuarters) & 0xffff;
    int excess = static_cast<int>(counts >> 16) - (kept - all_above);
    excess = min(max(excess, 0), own_equal);
    if (__all_sync(~0u, excess == 0)) return;
#pragma unroll
    for (int w = KeptMask<kHeadDim>::kWords - 1; w >= 0; --w) {
#pragma unroll 1
      for (int k = 31; k >= 0 && excess > 0; --k) {
        // Channels in descending order: of each pair the upper, then the lower one.
        const uint32_t bit = 1u << (k / 2 + k % 2 * 16);
        if ((equal.words[w] & bit) != 0) --excess;
        equal.words[w] &= ~bit;
      }
    }
  }

  __half2 magnitudes_[kPairs];
};

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_PRUNE_CUH_
