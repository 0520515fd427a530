#include "kernels/cuda/gpu_block_layout.h"
#include "kernels/cuda/pages.h"

namespace kvattend::cuda {
namespace {

constexpr int kThreads = 128;
// Channels that a thread moves at once: 16 bytes.
constexpr int kPiece = 8;

// A thread block writes one head of one job.
__global__ void __launch_bounds__(kThreads)
    WritePagesKernel(const __grid_constant__ WritePagesLaunch launch) {
  const WritePageJob job = launch.jobs[blockIdx.x / launch.num_kv_heads];
  const int head = static_cast<int>(blockIdx.x) % launch.num_kv_heads;
  const int head_dim = launch.head_dim;
  uint8_t* const page = launch.arena + job.page + head * PageHeadBytes(head_dim);
  auto* const page_keys = reinterpret_cast<uint16_t*>(page);
  auto* const page_values = reinterpret_cast<uint16_t*>(page + PageValueOffset(head_dim));
  const int pieces = head_dim / kPiece;
  for (int i = threadIdx.x; i < 2 * job.num_tokens * pieces; i += kThreads) {
    const int token = i / pieces / 2;
    const int channel = i % pieces * kPiece;
    const int slot = job.first_slot + token;
    const int64_t row = (static_cast<int64_t>(token) * launch.num_kv_heads + head) * head_dim;
    if (i / pieces % 2 == 0) {
      // These slots lie together in a page, too.
      *reinterpret_cast<uint4*>(page_keys + PageKeyIndex(head_dim, slot, channel)) =
          *reinterpret_cast<const uint4*>(job.keys + row + channel);
    } else {
      const uint4 piece = *reinterpret_cast<const uint4*>(job.values + row + channel);
      const uint32_t words[kPiece / 2] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
      for (int c = 0; c < kPiece; ++c) {
        page_values[PageValueIndex(slot, channel + c)] =
            static_cast<uint16_t>(words[c / 2] >> (16 * (c % 2)));
      }
    }
  }
}

__global__ void __launch_bounds__(kThreads)
    CopyPagesKernel(const __grid_constant__ CopyPagesLaunch launch) {
  const CopyPageJob job = launch.jobs[blockIdx.x];
  const auto* const source = reinterpret_cast<const uint4*>(launch.arena + job.source);
  auto* const destination = reinterpret_cast<uint4*>(launch.arena + job.destination);
  for (uint64_t i = threadIdx.x; i < job.size_bytes / sizeof(uint4); i += kThreads) {
    destination[i] = source[i];
  }
}

}  // namespace

cudaError_t LaunchWritePages(const WritePagesLaunch& launch, cudaStream_t stream) {
  if (launch.num_jobs == 0) return cudaSuccess;
  WritePagesKernel<<<launch.num_jobs * launch.num_kv_heads, kThreads, 0, stream>>>(launch);
  return cudaGetLastError();
}

cudaError_t LaunchCopyPages(const CopyPagesLaunch& launch, cudaStream_t stream) {
  if (launch.num_jobs == 0) return cudaSuccess;
  CopyPagesKernel<<<launch.num_jobs, kThreads, 0, stream>>>(launch);
  return cudaGetLastError();
}

}  // namespace kvattend::cuda
