// Sums and maxima over the threads of a thread block, in a fixed order.
#ifndef KVATTEND_KERNELS_CUDA_BLOCK_REDUCE_CUH_
#define KVATTEND_KERNELS_CUDA_BLOCK_REDUCE_CUH_

#include "kernels/cuda/gpu_block_layout.h"

namespace kvattend::cuda {

// Combines `value` of all threads with `combine`, commutative and associative up to rounding; all
// threads get the result. `shared` has an element for each warp. Synchronises the thread block.
template <int kThreads, typename T, typename Combine>
__device__ __forceinline__ T BlockReduce(T value, T* shared, const Combine& combine) {
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2) {
    value = combine(value, __shfl_xor_sync(~0u, value, distance));
  }
  __syncthreads();
  if (threadIdx.x % kLanes == 0) shared[threadIdx.x / kLanes] = value;
  __syncthreads();
  T result = shared[0];
  for (int warp = 1; warp < kThreads / kLanes; ++warp) result = combine(result, shared[warp]);
  return result;
}

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_BLOCK_REDUCE_CUH_
