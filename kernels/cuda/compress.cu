#include <algorithm>

#include "kernels/cuda/canonical_part.cuh"
#include "kernels/cuda/codec_launch.cuh"
#include "kernels/cuda/codec_tile.cuh"
#include "kernels/cuda/compress.h"
#include "kernels/cuda/gpu_part.cuh"
#include "kernels/cuda/quantise.cuh"

namespace kvattend::cuda {
namespace {

// Values of one head of a page into 16 rows of a tile. Neighbouring threads take neighbouring
// slots, which lie together.
template <int kHeadDim>
__device__ __forceinline__ void LoadPagedValues(const uint16_t* page, int num_tokens,
                                                int first_token, CodecTile<kHeadDim>& tile) {
  for (int i = threadIdx.x; i < kTokensPerPage * kHeadDim; i += kCodecThreads) {
    const int slot = i % kTokensPerPage;
    const int channel = i / kTokensPerPage;
    if (slot < num_tokens)
      tile.row(first_token + slot)[channel] = page[PageValueIndex(slot, channel)];
  }
}

// One part's 64 tokens into a tile; visible to all threads afterwards.
template <int kHeadDim>
__device__ __forceinline__ void LoadTokens(const CompressJob& job, const uint8_t* arena,
                                           const PartIndex& index, int num_kv_heads,
                                           CodecTile<kHeadDim>& tile) {
  // Pieces of 8 channels, which lie together in tensors and among the keys of a page.
  constexpr int kPieces = kHeadDim / 8;
  constexpr int kPiecesAThread = kTokensPerBlock * kPieces / kCodecThreads;
  const int num_paged = static_cast<int>(job.num_paged);
  const uint16_t* const tensor = index.is_key ? job.keys : job.values;
  const auto page_head = [&](int page) {
    return arena + job.pages[page] + index.head * PageHeadBytes(kHeadDim);
  };
  uint4 pieces[kPiecesAThread];
#pragma unroll
  for (int i = 0; i < kPiecesAThread; ++i) {
    const int token = (i * kCodecThreads + static_cast<int>(threadIdx.x)) / kPieces;
    const int channel = threadIdx.x % kPieces * 8;
    const uint16_t* source =
        tensor + (static_cast<int64_t>(token - num_paged) * num_kv_heads + index.head) * kHeadDim +
        channel;
    if (token < num_paged) {
      if (!index.is_key) continue;
      source = reinterpret_cast<const uint16_t*>(page_head(token / kTokensPerPage)) +
               PageKeyIndex(kHeadDim, token % kTokensPerPage, channel);
    }
    pieces[i] = *reinterpret_cast<const uint4*>(source);
  }
#pragma unroll
  for (int i = 0; i < kPiecesAThread; ++i) {
    const int token = (i * kCodecThreads + static_cast<int>(threadIdx.x)) / kPieces;
    if (token < num_paged && !index.is_key) continue;
    *reinterpret_cast<uint4*>(tile.row(token) + threadIdx.x % kPieces * 8) = pieces[i];
  }
  if (!index.is_key) {
    for (int first = 0; first < num_paged; first += kTokensPerPage) {
      LoadPagedValues(reinterpret_cast<const uint16_t*>(page_head(first / kTokensPerPage) +
                                                        PageValueOffset(kHeadDim)),
                      min(kTokensPerPage, num_paged - first), first, tile);
    }
  }
  __syncthreads();
}

template <int kHeadDim>
__global__ void __launch_bounds__(kCodecThreads)
    CompressKernel(const __grid_constant__ CompressLaunch launch) {
  CodecShared<kHeadDim>& shared = CodecShared<kHeadDim>::Get();
  const PartIndex index(launch.num_kv_heads);
  const PartCodec& part = PartOf(launch.codec, index.is_key);
  const CompressJob& job = launch.jobs[index.job];
  LoadTokens(job, launch.arena, index, launch.num_kv_heads, shared.tile);
  EncodeTile(part, shared.tile, shared.scratch());
  StoreGpuPart(part, shared.tile, shared.image,
               launch.arena + job.block + GpuPartOffset(launch.codec, index));
}

template <int kHeadDim>
__global__ void __launch_bounds__(kCodecThreads)
    EncodeKernel(const __grid_constant__ EncodeLaunch launch) {
  CodecShared<kHeadDim>& shared = CodecShared<kHeadDim>::Get();
  const PartIndex index(launch.num_kv_heads);
  const PartCodec& part = PartOf(launch.codec, index.is_key);
  const int64_t first =
      static_cast<int64_t>(index.job) * kTokensPerBlock * launch.num_kv_heads * kHeadDim;
  const CompressJob job{.keys = launch.keys + first, .values = launch.values + first};
  LoadTokens(job, nullptr, index, launch.num_kv_heads, shared.tile);
  EncodeTile(part, shared.tile, shared.scratch());
  const int64_t block_bytes = static_cast<int64_t>(launch.num_kv_heads) * launch.codec.head_bytes();
  StoreCanonicalPart(
      part, shared.tile, shared.image,
      launch.canonical + index.job * block_bytes + CanonicalPartOffset(launch.codec, index));
}

// To nearest even; what would become infinity becomes the largest finite number.
__device__ __forceinline__ uint16_t RoundSaturating(float x) {
  return __half_as_ushort(__float2half_rn(fminf(fmaxf(x, -65504.0f), 65504.0f)));
}

template <int kHeadDim>
__global__ void __launch_bounds__(kCodecThreads)
    RecodeKernel(const __grid_constant__ RecodeLaunch launch) {
  CodecShared<kHeadDim>& shared = CodecShared<kHeadDim>::Get();
  const PartIndex index(launch.num_kv_heads);
  const RecodeJob& job = launch.jobs[index.job];
  const PartCodec& source = PartOf(launch.source_codec, index.is_key);
  LoadGpuPart(source, launch.arena + job.source + GpuPartOffset(launch.source_codec, index),
              shared.image, shared.tile);
  const TileDecoder<kHeadDim> decoder(source, shared.tile);
  for (int i = threadIdx.x; i < kTokensPerBlock * kHeadDim; i += kCodecThreads) {
    const int token = i / kHeadDim;
    const int channel = i % kHeadDim;
    shared.tile.row(token)[channel] = RoundSaturating(decoder.Value(token, channel));
  }
  __syncthreads();
  const PartCodec& part = PartOf(launch.codec, index.is_key);
  EncodeTile(part, shared.tile, shared.scratch());
  StoreGpuPart(part, shared.tile, shared.image,
               launch.arena + job.destination + GpuPartOffset(launch.codec, index));
}

template <int kHeadDim>
struct Compress {
  static constexpr auto kRun = CompressKernel<kHeadDim>;
};
template <int kHeadDim>
struct Encode {
  static constexpr auto kRun = EncodeKernel<kHeadDim>;
};
template <int kHeadDim>
struct Recode {
  static constexpr auto kRun = RecodeKernel<kHeadDim>;
};

}  // namespace

cudaError_t LaunchCompress(const CompressLaunch& launch, cudaStream_t stream) {
  return LaunchForHeadDim<Compress>(launch.codec.keys.gpu.head_dim, launch, launch.num_jobs,
                                    ImageBytes(launch.codec), stream);
}

cudaError_t LaunchEncode(const EncodeLaunch& launch, cudaStream_t stream) {
  return LaunchForHeadDim<Encode>(launch.codec.keys.gpu.head_dim, launch, launch.num_blocks,
                                  ImageBytes(launch.codec), stream);
}

cudaError_t LaunchRecode(const RecodeLaunch& launch, cudaStream_t stream) {
  return LaunchForHeadDim<Recode>(
      launch.codec.keys.gpu.head_dim, launch, launch.num_jobs,
      std::max(ImageBytes(launch.source_codec), ImageBytes(launch.codec)), stream);
}

}  // namespace kvattend::cuda
