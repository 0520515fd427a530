// Merges the partial results of attend_kernel.cuh.
#ifndef KVATTEND_KERNELS_CUDA_MERGE_KERNEL_CUH_
#define KVATTEND_KERNELS_CUDA_MERGE_KERNEL_CUH_

#include <cstdint>

#include "kernels/cuda/attend.h"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/query_operands.cuh"

namespace kvattend::cuda {

// Warps that share the splits of a pair: split i goes to warp i % kMergeWarps.
inline constexpr int kMergeWarps = 8;

// One thread block a pair: [merge task][pair of the task]. The order of additions depends on the
// number of splits alone.
template <int kHeadDim>
__global__ void __launch_bounds__(kMergeWarps* kLanes)
    MergeKernel(const __grid_constant__ AttendLaunch launch) {
  constexpr int kChannels = kHeadDim / kLanes;
  __shared__ float outputs[kMergeWarps][kHeadDim];
  __shared__ float maxima[kMergeWarps];
  __shared__ float sums[kMergeWarps];
  const int num_pairs = kPairsATile * launch.num_column_tiles;
  const MergeTask task = launch.merges[blockIdx.x / num_pairs];
  const int pair = blockIdx.x % num_pairs;
  const AttendItem& item = launch.items[task.item];
  const int token = TokenOfPair(item, task.first_pair + pair);
  const int warp = threadIdx.x / kLanes;
  const int lane = threadIdx.x % kLanes;
  WaitForPrevious();
  if (blockIdx.x == 0 && threadIdx.x == 0) *launch.next_task = 0;
  if (token >= item.num_query_tokens) return;

  // Every warp merges its splits, then all of them merge what the warps have.
  const int64_t first = static_cast<int64_t>(task.first_task) * num_pairs + pair;
  const float2* stats = launch.partial_stats + first;
  const float2* partial =
      reinterpret_cast<const float2*>(launch.partial_outputs + first * kHeadDim) + lane;
  float maximum = kNoScore;
  float sum = 0.0f;
  float2 output[kChannels / 2] = {};
#pragma unroll 8
  for (int i = warp; i < task.num_splits; i += kMergeWarps) {
    const int64_t offset = static_cast<int64_t>(i) * num_pairs;
    const float2 stat = stats[offset];
    float2 x[kChannels / 2];
#pragma unroll
    for (int c = 0; c < kChannels / 2; ++c) x[c] = partial[offset * (kHeadDim / 2) + c * kLanes];
    const float larger = fmaxf(maximum, stat.x);
    const float shrink = Exp2(maximum - larger);
    const float weight = Exp2(stat.x - larger);
    maximum = larger;
    sum = fmaf(stat.y, weight, sum * shrink);
#pragma unroll
    for (int c = 0; c < kChannels / 2; ++c) {
      output[c].x = fmaf(x[c].x, weight, output[c].x * shrink);
      output[c].y = fmaf(x[c].y, weight, output[c].y * shrink);
    }
  }
#pragma unroll
  for (int c = 0; c < kChannels / 2; ++c) {
    reinterpret_cast<float2*>(outputs[warp])[c * kLanes + lane] = output[c];
  }
  if (lane == 0) {
    maxima[warp] = maximum;
    sums[warp] = sum;
  }
  __syncthreads();

  const int channel = threadIdx.x;
  if (channel >= kHeadDim) return;
#pragma unroll
  for (int w = 0; w < kMergeWarps; ++w) maximum = w == 0 ? maxima[0] : fmaxf(maximum, maxima[w]);
  float total = 0.0f;
  float value = 0.0f;
#pragma unroll
  for (int w = 0; w < kMergeWarps; ++w) {
    const float weight = Exp2(maxima[w] - maximum);
    total = fmaf(sums[w], weight, total);
    value = fmaf(outputs[w][channel], weight, value);
  }
  const int head = task.kv_head * item.group + task.first_pair + pair - token * item.group;
  const int64_t row = static_cast<int64_t>(token) * item.num_query_heads + head;
  item.output[row * kHeadDim + channel] = value / total;
  constexpr float kLn2 = 0.6931471805599453f;
  if (channel == 0) item.lse[row] = (maximum + log2f(total)) * kLn2;
}

// The launch does not wait for the kernel before: the merge kernel itself does.
template <int kHeadDim>
cudaError_t LaunchMerge(const AttendLaunch& launch, cudaStream_t stream) {
  // The split of on-chip memory that the attend kernel needs: changing it would wait for an idle
  // multiprocessor.
  static const cudaError_t configured =
      cudaFuncSetAttribute(MergeKernel<kHeadDim>, cudaFuncAttributePreferredSharedMemoryCarveout,
                           cudaSharedmemCarveoutMaxShared);
  if (configured != cudaSuccess) return configured;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim =
      dim3(static_cast<unsigned>(launch.num_merges * kPairsATile * launch.num_column_tiles));
  config.blockDim = dim3(kMergeWarps * kLanes);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = launch.has_dependent_launch ? 1 : 0;
  return cudaLaunchKernelEx(&config, MergeKernel<kHeadDim>, launch);
}

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_MERGE_KERNEL_CUH_
