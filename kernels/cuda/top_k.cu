// The best scores of rows: the k-th best is found byte by byte from histograms, those that reach it
// are gathered, then sorted.
#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/cuda/gpu_block_layout.h"
#include "kernels/cuda/scores.h"

namespace kvattend::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / kLanes;
constexpr int kBins = 256;

// A number that is larger the better the score is; 0 for NaN.
__device__ __forceinline__ uint32_t Rank(float score) {
  if (isnan(score)) return 0;
  // -0 is as good as 0.
  const uint32_t bits = __float_as_uint(score + 0.0f);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}

struct Border {
  // The rank of the worst score that is chosen, and how many with this rank are.
  uint32_t rank;
  int num_equal;
};

// Of `scores` [count], the best k <= count.
__device__ Border FindBorder(const float* scores, int count, int k) {
  __shared__ int bins[kBins];
  __shared__ Border border;
  if (threadIdx.x == 0) border = {.rank = 0, .num_equal = k};
  for (int shift = 24; shift >= 0; shift -= 8) {
    if (threadIdx.x < kBins) bins[threadIdx.x] = 0;
    __syncthreads();
    // What is above `shift` must be as found so far.
    const uint32_t known = shift == 24 ? 0 : ~0u << (shift + 8);
    const uint32_t prefix = border.rank;
    for (int i = threadIdx.x; i < count; i += kThreads) {
      const uint32_t rank = Rank(scores[i]);
      if ((rank & known) == prefix) atomicAdd(&bins[rank >> shift & (kBins - 1)], 1);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int left = border.num_equal;
      int bin = kBins - 1;
      while (bins[bin] < left) left -= bins[bin--];
      border = {.rank = prefix | static_cast<uint32_t>(bin) << shift, .num_equal = left};
    }
    __syncthreads();
  }
  return border;
}

// How many threads before this one have `flag`, and in `total` how many have in all.
__device__ int CountBefore(bool flag, int* total) {
  __shared__ int warps[kWarps];
  const uint32_t flags = __ballot_sync(~0u, flag);
  const int warp = threadIdx.x / kLanes;
  __syncthreads();
  if (threadIdx.x % kLanes == 0) warps[warp] = __popc(flags);
  __syncthreads();
  int before = __popc(flags & ((1u << threadIdx.x % kLanes) - 1));
  *total = 0;
  for (int w = 0; w < kWarps; ++w) {
    if (w < warp) before += warps[w];
    *total += warps[w];
  }
  return before;
}

// Gathers what the border lets through as numbers whose ascending order is the one wanted.
__device__ void Gather(const float* scores, int count, const Border& border, uint64_t* chosen) {
  int equal = 0;
  int gathered = 0;
  for (int first = 0; first < count; first += kThreads) {
    const int i = first + static_cast<int>(threadIdx.x);
    const uint32_t rank = i < count ? Rank(scores[i]) : 0;
    const bool is_equal = i < count && rank == border.rank;
    int num_equal = 0;
    const int equal_before = equal + CountBefore(is_equal, &num_equal);
    equal += num_equal;
    const bool is_chosen =
        i < count && (rank > border.rank || (is_equal && equal_before < border.num_equal));
    int num_chosen = 0;
    const int at = gathered + CountBefore(is_chosen, &num_chosen);
    gathered += num_chosen;
    if (is_chosen) chosen[at] = static_cast<uint64_t>(~rank) << 32 | static_cast<uint32_t>(i);
  }
}

// Sorts `size` numbers, a power of two, ascending: a bitonic network.
__device__ void Sort(uint64_t* numbers, int size) {
  for (int run = 2; run <= size; run *= 2) {
    for (int distance = run / 2; distance > 0; distance /= 2) {
      __syncthreads();
      for (int i = threadIdx.x; i < size / 2; i += kThreads) {
        const int low = i / distance * 2 * distance + i % distance;
        const int high = low + distance;
        const bool ascending = (low & run) == 0;
        const uint64_t a = numbers[low];
        const uint64_t b = numbers[high];
        if ((a > b) == ascending) {
          numbers[low] = b;
          numbers[high] = a;
        }
      }
    }
  }
  __syncthreads();
}

// A thread block does a row.
__global__ void __launch_bounds__(kThreads)
    TopKKernel(const __grid_constant__ TopKLaunch launch, int scratch_size) {
  const int row = static_cast<int>(blockIdx.x);
  const float* const scores =
      launch.scores.scores + static_cast<int64_t>(row) * launch.scores.width();
  const int count = launch.scores.num_seen(row);
  const int k = min(launch.k, count);
  uint64_t* const chosen = launch.scratch + static_cast<int64_t>(row) * scratch_size;
  for (int i = k + static_cast<int>(threadIdx.x); i < scratch_size; i += kThreads) {
    chosen[i] = ~uint64_t{0};
  }
  Gather(scores, count, FindBorder(scores, count, k), chosen);
  Sort(chosen, scratch_size);
  for (int i = threadIdx.x; i < launch.k; i += kThreads) {
    const int64_t out = static_cast<int64_t>(row) * launch.k + i;
    const auto index = static_cast<uint32_t>(chosen[i]);
    launch.top_scores[out] = i < k ? scores[index] : launch.unseen;
    launch.top_positions[out] =
        i < k ? static_cast<int64_t>(launch.scores.start_position) + index : -1;
  }
}

}  // namespace

int TopKScratch(int k) { return static_cast<int>(std::bit_ceil(static_cast<uint32_t>(k))); }

cudaError_t LaunchTopK(const TopKLaunch& launch, cudaStream_t stream) {
  TopKKernel<<<launch.scores.num_rows(), kThreads, 0, stream>>>(launch, TopKScratch(launch.k));
  return cudaGetLastError();
}

}  // namespace kvattend::cuda
