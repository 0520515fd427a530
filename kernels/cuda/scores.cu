#include <algorithm>
#include <cmath>

#include "kernels/cuda/block_reduce.cuh"
#include "kernels/cuda/canonical_part.cuh"
#include "kernels/cuda/codec_launch.cuh"
#include "kernels/cuda/codec_tile.cuh"
#include "kernels/cuda/gpu_part.cuh"
#include "kernels/cuda/scores.h"

namespace kvattend::cuda {
namespace {

// Rows of one KV head that a thread block computes against a unit.
constexpr int kRowsABlock = 64;

// The keys of up to four pages, exact, as a tile.
template <int kHeadDim>
__device__ __forceinline__ void LoadExactKeys(const ScoresLaunch& launch, int first_page, int head,
                                              int num_tokens, CodecTile<kHeadDim>& tile) {
  constexpr int kPieces = kHeadDim / 8;
  for (int i = threadIdx.x; i < num_tokens * kPieces; i += kCodecThreads) {
    const int token = i / kPieces;
    const int channel = i % kPieces * 8;
    const uint8_t* const page = launch.arena + launch.pages[first_page + token / kTokensPerPage] +
                                head * PageHeadBytes(kHeadDim);
    *reinterpret_cast<uint4*>(tile.row(token) + channel) =
        *reinterpret_cast<const uint4*>(reinterpret_cast<const uint16_t*>(page) +
                                        PageKeyIndex(kHeadDim, token % kTokensPerPage, channel));
  }
  __syncthreads();
}

// A thread has a quarter of a key, and multiplies it with a quarter of each query.
template <int kHeadDim>
__global__ void __launch_bounds__(kCodecThreads)
    ScoresKernel(const __grid_constant__ ScoresLaunch launch) {
  constexpr int kChannels = kHeadDim / kQuarters;
  CodecShared<kHeadDim>& shared = CodecShared<kHeadDim>::Get();
  const int kv_head = static_cast<int>(blockIdx.x) % launch.num_kv_heads;
  const int unit =
      launch.start_position / kTokensPerBlock + static_cast<int>(blockIdx.x) / launch.num_kv_heads;
  const bool is_exact = unit >= launch.num_blocks;
  PartCodec part = launch.codec.keys;
  if (is_exact) {
    // Exact tokens are 16-bit codes.
    part.gpu.bits = 16;
    const int first_page = (unit - launch.num_blocks) * (kTokensPerBlock / kTokensPerPage);
    LoadExactKeys(launch, first_page, kv_head,
                  min(kTokensPerBlock, launch.num_exact - first_page * kTokensPerPage),
                  shared.tile);
  } else {
    LoadGpuPart(part, launch.arena + launch.blocks[unit] + kv_head * launch.codec.gpu_head_bytes(),
                shared.image, shared.tile);
  }
  const TileDecoder<kHeadDim> decoder(part, shared.tile);
  const int token = threadIdx.x / kQuarters;
  const int first_channel = threadIdx.x % kQuarters * kChannels;
  const int position = unit * kTokensPerBlock + token;
  const bool is_asked = position >= launch.start_position && position < launch.length();
  float key[kChannels];
#pragma unroll
  for (int c = 0; c < kChannels; ++c) {
    key[c] = is_asked ? decoder.Value(token, first_channel + c) : 0.0f;
  }
  const int group = launch.num_query_heads / launch.num_kv_heads;
  const int num_pairs = (launch.last_token - launch.first_token) * group;
  const int first_pair = blockIdx.y * kRowsABlock;
  for (int pair = first_pair; pair < min(first_pair + kRowsABlock, num_pairs); ++pair) {
    const int row = pair / group * launch.num_query_heads + kv_head * group + pair % group;
    const auto* const query = reinterpret_cast<const float4*>(
        launch.query + static_cast<int64_t>(row) * kHeadDim + first_channel);
    float sum = 0.0f;
#pragma unroll
    for (int c = 0; c < kChannels; c += 4) {
      const float4 q = query[c / 4];
      sum = fmaf(q.x, key[c], sum);
      sum = fmaf(q.y, key[c + 1], sum);
      sum = fmaf(q.z, key[c + 2], sum);
      sum = fmaf(q.w, key[c + 3], sum);
    }
    sum = QuarterSum(sum);
    const int index = position - launch.start_position;
    if (is_asked && first_channel == 0) {
      launch.scores[static_cast<int64_t>(row) * launch.width() + index] =
          index < launch.num_seen(row) ? launch.scale * sum : -INFINITY;
    }
  }
}

template <int kHeadDim>
cudaError_t LaunchScoresOf(const ScoresLaunch& launch, cudaStream_t stream) {
  const int shared_bytes =
      static_cast<int>(sizeof(CodecTile<kHeadDim>)) + launch.codec.keys.gpu.size_bytes;
  const cudaError_t error = cudaFuncSetAttribute(
      ScoresKernel<kHeadDim>, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
  if (error != cudaSuccess) return error;
  const int num_units = (launch.length() + kTokensPerBlock - 1) / kTokensPerBlock -
                        launch.start_position / kTokensPerBlock;
  const int num_pairs = launch.num_rows() / launch.num_kv_heads;
  const dim3 grid(num_units * launch.num_kv_heads, (num_pairs + kRowsABlock - 1) / kRowsABlock);
  ScoresKernel<kHeadDim><<<grid, kCodecThreads, shared_bytes, stream>>>(launch);
  return cudaGetLastError();
}

constexpr int kSoftmaxThreads = 512;

// A thread block turns a row into probabilities.
__global__ void __launch_bounds__(kSoftmaxThreads)
    SoftmaxKernel(const __grid_constant__ ScoresLaunch launch) {
  __shared__ float shared[kSoftmaxThreads / kLanes];
  const int width = launch.width();
  float* const row = launch.scores + static_cast<int64_t>(blockIdx.x) * width;
  float largest = -INFINITY;
  for (int i = threadIdx.x; i < width; i += kSoftmaxThreads) largest = fmaxf(largest, row[i]);
  largest =
      BlockReduce<kSoftmaxThreads>(largest, shared, [](float a, float b) { return fmaxf(a, b); });
  float sum = 0.0f;
  for (int i = threadIdx.x; i < width; i += kSoftmaxThreads) sum += expf(row[i] - largest);
  sum = BlockReduce<kSoftmaxThreads>(sum, shared, [](float a, float b) { return a + b; });
  for (int i = threadIdx.x; i < width; i += kSoftmaxThreads) row[i] = expf(row[i] - largest) / sum;
}

}  // namespace

cudaError_t LaunchScores(const ScoresLaunch& launch, cudaStream_t stream) {
  switch (launch.codec.keys.gpu.head_dim) {
    case 64:
      return LaunchScoresOf<64>(launch, stream);
    case 128:
      return LaunchScoresOf<128>(launch, stream);
    case 256:
      return LaunchScoresOf<256>(launch, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

cudaError_t LaunchSoftmax(const ScoresLaunch& launch, cudaStream_t stream) {
  SoftmaxKernel<<<launch.num_rows(), kSoftmaxThreads, 0, stream>>>(launch);
  return cudaGetLastError();
}

}  // namespace kvattend::cuda
