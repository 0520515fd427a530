#include "kernels/cuda/canonical_part.cuh"
#include "kernels/cuda/codec_launch.cuh"
#include "kernels/cuda/codec_tile.cuh"
#include "kernels/cuda/convert.h"
#include "kernels/cuda/gpu_part.cuh"

namespace kvattend::cuda {
namespace {

__device__ __forceinline__ int64_t CanonicalOffset(const BlockCodec& codec, int num_kv_heads,
                                                   const PartIndex& index) {
  return static_cast<int64_t>(index.job) * num_kv_heads * codec.head_bytes() +
         CanonicalPartOffset(codec, index);
}

template <int kHeadDim>
__global__ void __launch_bounds__(kCodecThreads)
    ReadKernel(const __grid_constant__ ConvertLaunch launch) {
  CodecShared<kHeadDim>& shared = CodecShared<kHeadDim>::Get();
  const PartIndex index(launch.num_kv_heads);
  const PartCodec& part = PartOf(launch.codec, index.is_key);
  LoadGpuPart(part, launch.arena + launch.blocks[index.job] + GpuPartOffset(launch.codec, index),
              shared.image, shared.tile);
  StoreCanonicalPart(part, shared.tile, shared.image,
                     launch.canonical + CanonicalOffset(launch.codec, launch.num_kv_heads, index));
}

template <int kHeadDim>
__global__ void __launch_bounds__(kCodecThreads)
    WriteKernel(const __grid_constant__ ConvertLaunch launch) {
  CodecShared<kHeadDim>& shared = CodecShared<kHeadDim>::Get();
  const PartIndex index(launch.num_kv_heads);
  const PartCodec& part = PartOf(launch.codec, index.is_key);
  LoadCanonicalPart(part,
                    launch.canonical + CanonicalOffset(launch.codec, launch.num_kv_heads, index),
                    shared.image, shared.tile);
  StoreGpuPart(part, shared.tile, shared.image,
               launch.arena + launch.blocks[index.job] + GpuPartOffset(launch.codec, index));
}

template <int kHeadDim>
__global__ void __launch_bounds__(kCodecThreads)
    DecodeKernel(const __grid_constant__ DecodeLaunch launch) {
  CodecShared<kHeadDim>& shared = CodecShared<kHeadDim>::Get();
  const PartIndex index(launch.num_kv_heads);
  const PartCodec& part = PartOf(launch.codec, index.is_key);
  LoadCanonicalPart(part,
                    launch.canonical + CanonicalOffset(launch.codec, launch.num_kv_heads, index),
                    shared.image, shared.tile);
  const TileDecoder<kHeadDim> decoder(part, shared.tile);
  float* const tensor = index.is_key ? launch.keys : launch.values;
  for (int i = threadIdx.x; i < kTokensPerBlock * kHeadDim; i += kCodecThreads) {
    const int token = i / kHeadDim;
    const int channel = i % kHeadDim;
    const int64_t row =
        (static_cast<int64_t>(index.job) * kTokensPerBlock + token) * launch.num_kv_heads +
        index.head;
    tensor[row * kHeadDim + channel] = decoder.Value(token, channel);
  }
}

template <int kHeadDim>
struct Read {
  static constexpr auto kRun = ReadKernel<kHeadDim>;
};
template <int kHeadDim>
struct Write {
  static constexpr auto kRun = WriteKernel<kHeadDim>;
};
template <int kHeadDim>
struct Decode {
  static constexpr auto kRun = DecodeKernel<kHeadDim>;
};

}  // namespace

cudaError_t LaunchReadBlocks(const ConvertLaunch& launch, cudaStream_t stream) {
  return LaunchForHeadDim<Read>(launch.codec.keys.gpu.head_dim, launch, launch.num_blocks,
                                ImageBytes(launch.codec), stream);
}

cudaError_t LaunchWriteBlocks(const ConvertLaunch& launch, cudaStream_t stream) {
  return LaunchForHeadDim<Write>(launch.codec.keys.gpu.head_dim, launch, launch.num_blocks,
                                 ImageBytes(launch.codec), stream);
}

cudaError_t LaunchDecode(const DecodeLaunch& launch, cudaStream_t stream) {
  return LaunchForHeadDim<Decode>(launch.codec.keys.gpu.head_dim, launch, launch.num_blocks,
                                  ImageBytes(launch.codec), stream);
}

}  // namespace kvattend::cuda
