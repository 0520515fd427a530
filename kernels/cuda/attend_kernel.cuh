// The fused kernel of attend.h: scores, softmax and weighted values in one pass.
//
// Every warp works alone, on tasks that it takes from a counter. Per block of 64 tokens:
//   1. KeyScores scales the query by the block's channel exponents and rounds it to 16-bit fixed
//      point, two int8 columns (high, low) for each pair; expands the keys tile by tile and
//      multiplies on int8 tensor cores. Sums are exact.
//   2. Weigh turns scores into probabilities relative to the block's maximum.
//   3. AddValues multiplies them by the values' token scales, rounds those to 16-bit fixed point
//      relative to their maximum, expands the values, multiplies and adds to float32 sums.
// Parts of 16 bits and exact pages take the same way on float16 tensor cores, with operands split
// into a high and a low float16.
//
// In accumulators, lane 4 * g + j has rows g and g + 8 of pair j (of each column tile): columns 2j
// (high) and 2j + 1 (low).
#ifndef KVATTEND_KERNELS_CUDA_ATTEND_KERNEL_CUH_
#define KVATTEND_KERNELS_CUDA_ATTEND_KERNEL_CUH_

#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/attend.h"
#include "kernels/cuda/expand.cuh"
#include "kernels/cuda/fixed_point.cuh"
#include "kernels/cuda/partial_result.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/query_operands.cuh"
#include "kernels/cuda/tile_sums.cuh"
#include "kernels/cuda/weight_operands.cuh"

namespace kvattend::cuda {

// What a kernel needs besides the tables of work.
struct AttendParams {
  AttendLaunch launch;
  Levels key_levels;
  Levels value_levels;
  int head_bytes = 0;
};

template <class KeyFormat, class ValueFormat, int kHeadDim, int kColumnTiles>
class AttendWarp {
 public:
  static constexpr int kKeySteps = kHeadDim / 32;
  static constexpr int kValueRows = kHeadDim / 16;
  static constexpr int kPairs = kPairsATile * kColumnTiles;
  static constexpr bool kIntKeys = KeyFormat::kBits < 16;
  static constexpr bool kIntValues = ValueFormat::kBits < 16;
  static constexpr int kQueryScratchBytes = QueryTile<kHeadDim>::kScratchBytes;
  // Operands are exchanged in the first bytes; int8 keys keep the queries in the others.
  static constexpr int kQueryOffset =
      kColumnTiles *
      (kQueryScratchBytes > kWeightScratchBytes ? kQueryScratchBytes : kWeightScratchBytes);
  static constexpr int kKeptQueryBytes = kIntKeys ? QueryTile<kHeadDim>::kKeptBytes : 0;
  static constexpr int kScratchBytes = kQueryOffset + kColumnTiles * kKeptQueryBytes;

  __device__ __forceinline__ AttendWarp(const AttendParams& params, uint8_t* key_buffer,
                                        uint8_t* value_buffer, uint8_t* scratch, uint64_t* barriers,
                                        const void* byte_selectors, const void* half_selectors)
      : params_(params),
        key_buffer_(key_buffer),
        value_buffer_(value_buffer),
        scratch_(scratch),
        key_copy_(barriers),
        value_copy_(barriers + 1),
        byte_selectors_(byte_selectors),
        half_selectors_(half_selectors),
        lane_(threadIdx.x % kLanes),
        g_(lane_ / 4),
        j_(lane_ % 4) {}

  struct Job {
    int task_index;
    AttendTask task;
  };

  // The first task is given, so that few tasks spread over all multiprocessors. Its first block
  // starts to travel.
  __device__ __forceinline__ void Prefetch(Job& job) {
    LoadJob(blockIdx.x + gridDim.x * (threadIdx.x / kLanes), job);
    StartBlock(job.task.first_block);
  }

  // Works on tasks until there are none: that one, then others taken from a counter.
  __device__ __forceinline__ void Run(Job job) {
    const int num_warps = gridDim.x * (blockDim.x / kLanes);
    while (job.task_index < params_.launch.num_tasks) {
      int taken = 0;
      if (lane_ == 0) taken = num_warps + static_cast<int>(atomicAdd(params_.launch.next_task, 1u));
      const AttendItem& item = params_.launch.items[job.task.item];
      Begin(item, job.task);
      Job next;
      Blocks(item, job, taken, next);
      const int last_unit = job.task.first_unit + job.task.num_units;
      for (int unit = max(job.task.first_unit, item.num_blocks); unit < last_unit; ++unit) {
        PageUnit(item, job.task, unit);
      }
      Finish(job.task_index);
      job = next;
    }
  }

 private:
  // ---- Tasks.

  __device__ __forceinline__ void LoadJob(int task_index, Job& job) const {
    job.task_index = task_index;
    job.task.first_block = kNoBlock;
    if (task_index < params_.launch.num_tasks) job.task = params_.launch.tasks[task_index];
  }

  // `block` may be kNoBlock.
  __device__ __forceinline__ void StartBlock(uint64_t block) {
    if (block == kNoBlock) return;
    StartKeys(params_.launch.arena + block);
    StartValues(params_.launch.arena + block);
  }
  __device__ __forceinline__ void StartKeys(const uint8_t* block) {
    key_copy_.Start(key_buffer_, block, params_.launch.keys.size_bytes);
  }
  __device__ __forceinline__ void StartValues(const uint8_t* block) {
    value_copy_.Start(value_buffer_, block + params_.launch.keys.size_bytes,
                      params_.launch.values.size_bytes);
  }

  // ---- The query.

  __device__ __forceinline__ void Begin(const AttendItem& item, const AttendTask& task) {
    const int length = item.num_blocks * kTokensPerBlock + item.num_exact;
    const int end_of_first = length - item.num_query_tokens + 1;
    first_limit_ = end_of_first + TokenOfPair(item, task.first_pair);
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) {
      const float largest =
          query_[n].Load(QueryOf<kHeadDim>(item, task, n * kPairsATile + lane_ / 8), lane_,
                         kIntKeys ? scratch_ + kQueryOffset + n * kKeptQueryBytes : nullptr);
      constexpr float kLog2E = 1.4426950408889634f;
      score_scale_[n] = __shfl_sync(~0u, largest, 8 * j_) * item.scale * kLog2E;
      limit_[n] = end_of_first + TokenOfPair(item, task.first_pair + n * kPairsATile + j_);
      result_[n].Reset();
    }
  }

  __device__ __forceinline__ void PrepareHalfQuery(
      const AttendItem& item, const AttendTask& task,
      uint32_t (&columns)[kColumnTiles][2 * kKeySteps][2]) const {
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) {
      query_[n].PrepareHalf(QueryOf<kHeadDim>(item, task, n * kPairsATile + g_ / 2), lane_,
                            columns[n]);
    }
  }

  // ---- Keys. Scores come as [column tile][4 (16 tokens)][2 (row g, row g + 8)].
  using Scores = float[kColumnTiles][4][2];

  template <class Format>
  __device__ __forceinline__ const void* Selectors() const {
    return Format::kBits == 16 ? half_selectors_ : byte_selectors_;
  }

  __device__ __forceinline__ void KeyScores(const AttendItem& item, const AttendTask& task,
                                            Scores& scores) {
    const GpuPartLayout& layout = params_.launch.keys;
    Expander<KeyFormat, kHeadDim> keys(key_buffer_, layout, Selectors<KeyFormat>(),
                                       params_.key_levels.bytes, lane_);
    if constexpr (kIntKeys) {
      float factors[kHeadDim / 8];
      LoadFactors<kHeadDim>(reinterpret_cast<const int8_t*>(key_buffer_ + layout.exponent_offset),
                            lane_, scratch_, factors);
      uint32_t columns[kColumnTiles][kKeySteps][2];
      float unit[kColumnTiles];
#pragma unroll
      for (int n = 0; n < kColumnTiles; ++n) {
        unit[n] = query_[n].Prepare(factors, lane_, scratch_ + n * kQueryScratchBytes, columns[n]);
      }
      float scales[8];
      LoadScales(key_buffer_ + layout.scale_offset, scales);
#pragma unroll
      for (int m = 0; m < 4; ++m) {
        TileSums<KeyFormat, kColumnTiles> sums;
#pragma unroll
        for (int k = 0; k < kKeySteps; ++k) {
          uint32_t a[4];
          keys.Tile(m * kKeySteps + k, a);
          sums.Add(keys, a, columns, k);
        }
#pragma unroll
        for (int n = 0; n < kColumnTiles; ++n) {
          const float factor = unit[n] * score_scale_[n] * params_.key_levels.unit;
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            scores[n][m][r] = sums.Get(n, r) * (scales[2 * m + r] * factor);
          }
        }
      }
    } else {
      uint32_t columns[kColumnTiles][2 * kKeySteps][2];
      PrepareHalfQuery(item, task, columns);
#pragma unroll
      for (int m = 0; m < 4; ++m) {
        float sums[kColumnTiles][4] = {};
#pragma unroll
        for (int k = 0; k < kKeySteps; ++k) {
          uint32_t rows[2][4];
          keys.Tile(m * kKeySteps + k, rows);
          MultiplyRows(sums, rows, columns, k);
        }
        StoreHalfScores(sums, m, scores);
      }
    }
  }

  // One tile of float16 keys.
  __device__ __forceinline__ static void MultiplyRows(
      float (&sums)[kColumnTiles][4], const uint32_t (&rows)[2][4],
      const uint32_t (&columns)[kColumnTiles][2 * kKeySteps][2], int step) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int n = 0; n < kColumnTiles; ++n) {
        MultiplyHalf(sums[n], rows[0][2 * half], rows[1][2 * half], rows[0][2 * half + 1],
                     rows[1][2 * half + 1], columns[n][2 * step + half][0],
                     columns[n][2 * step + half][1]);
      }
    }
  }

  __device__ __forceinline__ void StoreHalfScores(const float (&sums)[kColumnTiles][4], int m,
                                                  Scores& scores) const {
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) {
      scores[n][m][0] = (sums[n][0] + sums[n][1]) * score_scale_[n];
      scores[n][m][1] = (sums[n][2] + sums[n][3]) * score_scale_[n];
    }
  }

  // The scales of the 8 tokens whose scores a lane has.
  __device__ __forceinline__ void LoadScales(const uint8_t* scales, float (&out)[8]) const {
    const uint4 words = reinterpret_cast<const uint4*>(scales)[g_];
    UnpackHalves(words.x, out[0], out[1]);
    UnpackHalves(words.y, out[2], out[3]);
    UnpackHalves(words.z, out[4], out[5]);
    UnpackHalves(words.w, out[6], out[7]);
  }

  // Takes out the scores of tokens that are not to be seen, of the unit that begins at `token`.
  __device__ __forceinline__ void Mask(const AttendItem& item, int token, Scores& scores) const {
    if (token >= item.start_position && token + kTokensPerBlock <= first_limit_) return;
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const int position = token + 8 * i + g_;
        if (position < item.start_position || position >= limit_[n]) {
          scores[n][i / 2][i % 2] = -INFINITY;
        }
      }
    }
  }

  // ---- Values.

  __device__ __forceinline__ void PackAllHalfWeights(const Scores& weights,
                                                     uint32_t (&columns)[kColumnTiles][4][2]) {
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) {
      PackHalfWeights(weights[n], lane_, scratch_ + n * kWeightScratchBytes, columns[n]);
    }
  }

  __device__ __forceinline__ void AddValues(const Scores& weights, float (&factor)[kColumnTiles]) {
    const GpuPartLayout& layout = params_.launch.values;
    Expander<ValueFormat, kHeadDim> values(value_buffer_, layout, Selectors<ValueFormat>(),
                                           params_.value_levels.bytes, lane_);
    if constexpr (kIntValues) {
      float scales[8];
      LoadScales(value_buffer_ + layout.scale_offset, scales);
      uint32_t columns[kColumnTiles][2][2];
#pragma unroll
      for (int n = 0; n < kColumnTiles; ++n) {
        const float unit =
            PackWeights(weights[n], scales, lane_, scratch_ + n * kWeightScratchBytes, columns[n]);
        factor[n] *= unit * params_.value_levels.unit;
      }
#pragma unroll
      for (int m = 0; m < kValueRows; ++m) {
        TileSums<ValueFormat, kColumnTiles> sums;
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          uint32_t a[4];
          values.Tile(2 * m + k, a);
          sums.Add(values, a, columns, k);
        }
#pragma unroll
        for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
          for (int r = 0; r < 2; ++r) result_[n].Add(m, r, sums.Get(n, r), factor[n]);
        }
      }
    } else {
      uint32_t columns[kColumnTiles][4][2];
      PackAllHalfWeights(weights, columns);
#pragma unroll
      for (int m = 0; m < kValueRows; ++m) {
        float sums[kColumnTiles][4] = {};
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          uint32_t rows[2][4];
          values.Tile(2 * m + k, rows);
#pragma unroll
          for (int half = 0; half < 2; ++half) {
#pragma unroll
            for (int n = 0; n < kColumnTiles; ++n) {
              MultiplyHalf(sums[n], rows[0][2 * half], rows[1][2 * half], rows[0][2 * half + 1],
                           rows[1][2 * half + 1], columns[n][2 * k + half][0],
                           columns[n][2 * k + half][1]);
            }
          }
        }
        AddHalfSums(sums, m, factor);
      }
    }
  }

  __device__ __forceinline__ void AddHalfSums(const float (&sums)[kColumnTiles][4], int m,
                                              const float (&factor)[kColumnTiles]) {
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) {
      result_[n].Add(m, 0, sums[n][0] + sums[n][1], factor[n]);
      result_[n].Add(m, 1, sums[n][2] + sums[n][3], factor[n]);
    }
  }

  // ---- Units.

  // The blocks of a job, the first of which is on its way. The keys of the next block travel while
  // the values of this one are worked on, and the other way round; the first block of the next job
  // (task number `taken`, in lane 0) follows the last one of this.
  __device__ __forceinline__ void Blocks(const AttendItem& item, const Job& job, int taken,
                                         Job& next) {
    const int num_blocks = min(job.task.num_units, item.num_blocks - job.task.first_unit);
    uint64_t offset = 0;
    if (lane_ < num_blocks) {
      offset = item.blocks[job.task.first_unit + lane_] + job.task.kv_head * params_.head_bytes;
    }
    for (int i = 0; i < num_blocks; ++i) {
      key_copy_.Wait();
      if (i + 1 == num_blocks) LoadJob(__shfl_sync(~0u, taken, 0), next);
      Scores scores;
      KeyScores(item, job.task, scores);
      const uint64_t following =
          i + 1 < num_blocks ? __shfl_sync(~0u, offset, i + 1) : next.task.first_block;
      if (following != kNoBlock) StartKeys(params_.launch.arena + following);
      Mask(item, (job.task.first_unit + i) * kTokensPerBlock, scores);
      float factor[kColumnTiles];
#pragma unroll
      for (int n = 0; n < kColumnTiles; ++n) factor[n] = result_[n].Weigh(scores[n]);
      value_copy_.Wait();
      AddValues(scores, factor);
      if (following != kNoBlock) StartValues(params_.launch.arena + following);
    }
    if (num_blocks <= 0) {
      LoadJob(__shfl_sync(~0u, taken, 0), next);
      StartBlock(next.task.first_block);
    }
  }

  // Up to 64 exact tokens, straight from global memory: there are few.
  __device__ __forceinline__ void PageUnit(const AttendItem& item, const AttendTask& task,
                                           int unit) {
    const int first_page = (unit - item.num_blocks) * 4;
    const int count = min(item.num_exact - first_page * kTokensPerPage, kTokensPerBlock);
    const int num_pages = (count + kTokensPerPage - 1) / kTokensPerPage;
    const uint8_t* pages[4];
#pragma unroll
    for (int p = 0; p < 4; ++p) {
      // Pages that are not there: any that is, weighed with zeros.
      pages[p] = params_.launch.arena + item.pages[first_page + min(p, num_pages - 1)] +
                 task.kv_head * PageHeadBytes(kHeadDim);
    }
    uint32_t query[kColumnTiles][2 * kKeySteps][2];
    PrepareHalfQuery(item, task, query);
    Scores scores;
#pragma unroll
    for (int m = 0; m < 4; ++m) {
      float sums[kColumnTiles][4] = {};
#pragma unroll
      for (int k = 0; k < kKeySteps; ++k) {
        uint32_t rows[2][4];
        LoadHalfRows(reinterpret_cast<const uint4*>(pages[m]) + k * kTileRows * kLanes, lane_,
                     rows);
        MultiplyRows(sums, rows, query, k);
      }
      StoreHalfScores(sums, m, scores);
    }
    Mask(item, unit * kTokensPerBlock, scores);
    float factor[kColumnTiles];
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) factor[n] = result_[n].Weigh(scores[n]);
    uint32_t weights[kColumnTiles][4][2];
    PackAllHalfWeights(scores, weights);
#pragma unroll
    for (int m = 0; m < kValueRows; ++m) {
      float sums[kColumnTiles][4] = {};
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const uint4 a = reinterpret_cast<const uint4*>(
            pages[k] + PageValueOffset(kHeadDim))[m * kLanes + lane_];
        // Slots without a token may hold anything, NaN too, which a weight of 0 would not stop.
        const uint32_t even = TokenMask(count - 16 * k - 2 * j_);
        const uint32_t odd = TokenMask(count - 16 * k - 2 * j_ - 1);
#pragma unroll
        for (int n = 0; n < kColumnTiles; ++n) {
          MultiplyHalf(sums[n], a.x & even, a.z & even, a.y & odd, a.w & odd, weights[n][k][0],
                       weights[n][k][1]);
        }
      }
      AddHalfSums(sums, m, factor);
    }
  }

  // Of a word of two tokens, 8 apart, the first of which has `remaining` - 1 tokens after it.
  __device__ __forceinline__ static uint32_t TokenMask(int remaining) {
    return (remaining > 0 ? 0xffffu : 0) | (remaining > 8 ? 0xffff0000u : 0);
  }

  __device__ __forceinline__ void Finish(int task_index) {
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) {
      const int64_t pair = static_cast<int64_t>(task_index) * kPairs + n * kPairsATile + j_;
      result_[n].Store(g_, params_.launch.partial_outputs + pair * kHeadDim,
                       params_.launch.partial_stats + pair);
    }
  }

  const AttendParams& params_;
  uint8_t* const key_buffer_;
  uint8_t* const value_buffer_;
  uint8_t* const scratch_;
  WarpCopy key_copy_;
  WarpCopy value_copy_;
  const void* const byte_selectors_;
  const void* const half_selectors_;
  const int lane_;
  const int g_;
  const int j_;

  // Tokens before this one are seen by every pair of the task.
  int first_limit_ = 0;
  QueryTile<kHeadDim> query_[kColumnTiles];
  // Of pair j: what a unit of query * key is worth, and the end of the tokens that it sees.
  float score_scale_[kColumnTiles];
  int limit_[kColumnTiles];
  PartialResult<kHeadDim> result_[kColumnTiles];
};

// Shared memory: selectors, then per warp [barriers][keys][values][scratch].
template <class KeyFormat, class ValueFormat>
struct SharedLayout {
  static constexpr bool kUsesBytes = (KeyFormat::kSparse && KeyFormat::kBits < 16) ||
                                     (ValueFormat::kSparse && ValueFormat::kBits < 16);
  static constexpr bool kUsesHalves = (KeyFormat::kSparse && KeyFormat::kBits == 16) ||
                                      (ValueFormat::kSparse && ValueFormat::kBits == 16);
  static constexpr int kHalfOffset = kUsesBytes ? SelectorTable<true>::kBytes : 0;
  static constexpr int kWarpOffset = kHalfOffset + (kUsesHalves ? SelectorTable<false>::kBytes : 0);
  static constexpr int kBarrierBytes = 16;
  // Reading the stream of a sparse part runs up to 24 bytes over its end.
  static constexpr int kOverrunBytes = 32;
};

template <class KeyFormat, class ValueFormat, int kHeadDim, int kColumnTiles>
__global__ void __launch_bounds__(kColumnTiles == 1 ? 512 : 384, 1)
    AttendKernel(const __grid_constant__ AttendParams params) {
  using Shared = SharedLayout<KeyFormat, ValueFormat>;
  using Warp = AttendWarp<KeyFormat, ValueFormat, kHeadDim, kColumnTiles>;
  extern __shared__ __align__(128) uint8_t shared[];
  LaunchDependents();
  uint8_t* byte_selectors = shared;
  uint8_t* half_selectors = shared + Shared::kHalfOffset;
  const int key_bytes = params.launch.keys.size_bytes + Shared::kOverrunBytes;
  const int value_bytes = params.launch.values.size_bytes + Shared::kOverrunBytes;
  uint8_t* mine = shared + Shared::kWarpOffset +
                  threadIdx.x / kLanes *
                      (Shared::kBarrierBytes + key_bytes + value_bytes + Warp::kScratchBytes);
  uint8_t* keys = mine + Shared::kBarrierBytes;
  Warp warp(params, keys, keys + key_bytes, keys + key_bytes + value_bytes,
            reinterpret_cast<uint64_t*>(mine), byte_selectors, half_selectors);
  typename Warp::Job job;
  warp.Prefetch(job);
  if constexpr (Shared::kUsesBytes) FillSelectors<true>(byte_selectors);
  if constexpr (Shared::kUsesHalves) FillSelectors<false>(half_selectors);
  __syncthreads();
  warp.Run(job);
}

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_ATTEND_KERNEL_CUH_
