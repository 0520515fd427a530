// Launching kernels over codec tiles: a thread block for each part.
#ifndef KVATTEND_KERNELS_CUDA_CODEC_LAUNCH_CUH_
#define KVATTEND_KERNELS_CUDA_CODEC_LAUNCH_CUH_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/codec_tile.cuh"
#include "kernels/cuda/part_codec.h"

namespace kvattend::cuda {

// The part that this thread block works on.
struct PartIndex {
  __device__ __forceinline__ explicit PartIndex(int num_kv_heads)
      : head(static_cast<int>(blockIdx.x) % num_kv_heads),
        is_key(static_cast<int>(blockIdx.x) / num_kv_heads % 2 == 0),
        job(static_cast<int>(blockIdx.x) / (2 * num_kv_heads)) {}

  int head;
  bool is_key;
  int job;
};

__device__ __forceinline__ const PartCodec& PartOf(const BlockCodec& codec, bool is_key) {
  return is_key ? codec.keys : codec.values;
}
// Where a head's part begins in a block of the arena, and in a canonical block.
__device__ __forceinline__ int GpuPartOffset(const BlockCodec& codec, const PartIndex& index) {
  return index.head * codec.gpu_head_bytes() + (index.is_key ? 0 : codec.keys.gpu.size_bytes);
}
__device__ __forceinline__ int CanonicalPartOffset(const BlockCodec& codec,
                                                   const PartIndex& index) {
  return index.head * codec.head_bytes() + (index.is_key ? 0 : codec.keys.size_bytes);
}

// Dynamic shared memory of a codec kernel: a tile, then an image of a part (or scratch).
template <int kHeadDim>
struct CodecShared {
  CodecTile<kHeadDim> tile;
  alignas(16) uint8_t image[16];

  __device__ __forceinline__ static CodecShared& Get() {
    extern __shared__ uint4 codec_shared_memory[];
    return *reinterpret_cast<CodecShared*>(codec_shared_memory);
  }
  __device__ __forceinline__ float* scratch() { return reinterpret_cast<float*>(image); }
};

// What the image must hold: any part of the codec in either order, and the scratch of Equalise.
inline int ImageBytes(const BlockCodec& codec) {
  int size_bytes = kCodecThreads * 2 * static_cast<int>(sizeof(float));
  for (const PartCodec* part : {&codec.keys, &codec.values}) {
    for (const int part_bytes : {part->size_bytes, part->gpu.size_bytes}) {
      if (part_bytes > size_bytes) size_bytes = part_bytes;
    }
  }
  return size_bytes;
}

template <int kHeadDim, typename Params>
cudaError_t LaunchOver(void (*kernel)(Params), const Params& params, int num_jobs, int image_bytes,
                       cudaStream_t stream) {
  const int shared_bytes = static_cast<int>(sizeof(CodecTile<kHeadDim>)) + image_bytes;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
  if (error != cudaSuccess) return error;
  kernel<<<2 * num_jobs * params.num_kv_heads, kCodecThreads, shared_bytes, stream>>>(params);
  return cudaGetLastError();
}

// Launches Kernel<head_dim>::Run for `num_jobs` blocks of params.num_kv_heads heads.
template <template <int> class Kernel, typename Params>
cudaError_t LaunchForHeadDim(int head_dim, const Params& params, int num_jobs, int image_bytes,
                             cudaStream_t stream) {
  if (num_jobs == 0) return cudaSuccess;
  switch (head_dim) {
    case 64:
      return LaunchOver<64>(Kernel<64>::kRun, params, num_jobs, image_bytes, stream);
    case 128:
      return LaunchOver<128>(Kernel<128>::kRun, params, num_jobs, image_bytes, stream);
    case 256:
      return LaunchOver<256>(Kernel<256>::kRun, params, num_jobs, image_bytes, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_CODEC_LAUNCH_CUH_
