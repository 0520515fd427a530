// Launches the kernels of attend.h for one pair of formats. Instantiated in instantiations/.
#ifndef KVATTEND_KERNELS_CUDA_ATTEND_LAUNCH_CUH_
#define KVATTEND_KERNELS_CUDA_ATTEND_LAUNCH_CUH_

#include <cuda_runtime_api.h>

#include <algorithm>

#include "kernels/cuda/attend.h"
#include "kernels/cuda/attend_kernel.cuh"
#include "kernels/cuda/merge_kernel.cuh"

namespace kvattend::cuda {

// Levels of a part as bytes and what one is worth.
inline Levels LevelsOf(const GpuPartLayout& layout, float ratio) {
  if (layout.bits == 4) return {.unit = 1.0f / 16.0f};
  if (layout.bits != 2) return {.unit = 1.0f};
  // The smallest integers in the ratio 1 : r.
  const int small = ratio == 1.5f ? 2 : ratio == 2.0f ? 1 : 4;
  const int large = ratio == 1.5f ? 3 : ratio == 2.0f ? 2 : 13;
  const int bytes[4] = {small, large, -small, -large};
  Levels levels{.unit = 1.0f / static_cast<float>(small)};
  for (int i = 0; i < 4; ++i) levels.bytes |= static_cast<uint32_t>(bytes[i] & 0xff) << (8 * i);
  return levels;
}

template <class KeyFormat, class ValueFormat, int kHeadDim, int kColumnTiles>
cudaError_t LaunchKernels(const AttendLaunch& launch, cudaStream_t stream) {
  using Shared = SharedLayout<KeyFormat, ValueFormat>;
  using Warp = AttendWarp<KeyFormat, ValueFormat, kHeadDim, kColumnTiles>;
  const auto kernel = AttendKernel<KeyFormat, ValueFormat, kHeadDim, kColumnTiles>;
  const AttendParams params{.launch = launch,
                            .key_levels = LevelsOf(launch.keys, launch.key_ratio),
                            .value_levels = LevelsOf(launch.values, launch.value_ratio),
                            .head_bytes = launch.keys.size_bytes + launch.values.size_bytes};
  const int warp_bytes =
      Shared::kBarrierBytes + params.head_bytes + 2 * Shared::kOverrunBytes + Warp::kScratchBytes;
  constexpr int kMaxWarps = kColumnTiles == 1 ? 16 : 12;
  const int num_warps =
      std::min(kMaxWarps, (launch.max_shared_bytes - Shared::kWarpOffset) / warp_bytes);
  if (num_warps < 1) return cudaErrorNotSupported;
  const int shared_bytes = Shared::kWarpOffset + num_warps * warp_bytes;
  static const cudaError_t configured = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, launch.max_shared_bytes);
  if (configured != cudaSuccess) return configured;
  // No more warps than tasks, spread over the device.
  const int grid = std::min(launch.num_tasks, launch.num_multiprocessors);
  kernel<<<grid, num_warps * kLanes, shared_bytes, stream>>>(params);
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) return error;
  return LaunchMerge<kHeadDim>(launch, stream);
}

template <class KeyFormat, class ValueFormat, int kHeadDim>
cudaError_t LaunchHeadDim(const AttendLaunch& launch, cudaStream_t stream) {
  return launch.num_column_tiles == 1
             ? LaunchKernels<KeyFormat, ValueFormat, kHeadDim, 1>(launch, stream)
             : LaunchKernels<KeyFormat, ValueFormat, kHeadDim, 2>(launch, stream);
}

template <class KeyFormat, class ValueFormat>
cudaError_t LaunchFormats(const AttendLaunch& launch, cudaStream_t stream) {
  switch (launch.keys.head_dim) {
    case 64:
      return LaunchHeadDim<KeyFormat, ValueFormat, 64>(launch, stream);
    case 128:
      return LaunchHeadDim<KeyFormat, ValueFormat, 128>(launch, stream);
    case 256:
      return LaunchHeadDim<KeyFormat, ValueFormat, 256>(launch, stream);
    default:
      return cudaErrorNotSupported;
  }
}

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_ATTEND_LAUNCH_CUH_
