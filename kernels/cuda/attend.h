// Attention over compressed blocks and exact pages: the launch interface of the fused kernels.
//
// All pointers are device memory. Work is cut into tasks of one warp each: a run of units (64
// tokens: a block, or up to 4 pages) for one KV head of an item and up to kPairsATile * num_tiles
// pairs of a query token and a query head. A task writes a partial result; a second kernel merges
// the partials of a pair in order of their splits. A result depends on its item alone.
//
// Asynchronous on `stream`; arrays must live until the work is done.
#ifndef KVATTEND_KERNELS_CUDA_ATTEND_H_
#define KVATTEND_KERNELS_CUDA_ATTEND_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/gpu_block_layout.h"

namespace kvattend::cuda {

// Pairs that one 8-column operand holds: two columns each, for a high and a low part.
inline constexpr int kPairsATile = 4;
// Operands of 8 columns that a warp may keep.
inline constexpr int kMaxColumnTiles = 2;

// Scores are kept in base 2. This stands for no score at all: a float that differences from do not
// turn into NaN.
inline constexpr float kNoScore = -3.0e38f;

struct AttendItem {
  // Offsets of units in the arena.
  const uint64_t* blocks = nullptr;
  const uint64_t* pages = nullptr;
  // float32 [num_query_tokens, num_query_heads, head_dim], and [num_query_tokens, num_query_heads].
  const float* query = nullptr;
  float* output = nullptr;
  float* lse = nullptr;
  int32_t num_blocks = 0;
  int32_t num_exact = 0;
  int32_t num_query_tokens = 0;
  int32_t num_query_heads = 0;
  int32_t num_kv_heads = 0;
  // First token that is seen.
  int32_t start_position = 0;
  float scale = 0.0f;
  // Query heads that share a KV head.
  int32_t group = 0;
};

// Units that a task may have: a warp holds their offsets, one a lane.
inline constexpr int kMaxTaskUnits = kLanes;

struct AttendTask {
  // Where the first block's part for this KV head begins in the arena; kNoBlock where the task has
  // pages only.
  uint64_t first_block = 0;
  int32_t item = 0;
  int16_t kv_head = 0;
  int16_t num_units = 0;
  int32_t first_pair = 0;
  int32_t first_unit = 0;
  uint64_t reserved = 0;
};
inline constexpr uint64_t kNoBlock = ~uint64_t{0};

// The partials of tasks first_task .. first_task + num_splits - 1 make up the pairs from
// first_pair.
struct MergeTask {
  int32_t item = 0;
  int32_t kv_head = 0;
  int32_t first_pair = 0;
  int32_t first_task = 0;
  int32_t num_splits = 0;
};

struct AttendLaunch {
  GpuPartLayout keys;
  GpuPartLayout values;
  // The ratio of the magnitudes of 2-bit codes.
  float key_ratio = 0.0f;
  float value_ratio = 0.0f;
  // 1 or 2: operands of 8 columns a task has.
  int num_column_tiles = 1;
  const uint8_t* arena = nullptr;
  const AttendItem* items = nullptr;
  const AttendTask* tasks = nullptr;
  int num_tasks = 0;
  const MergeTask* merges = nullptr;
  int num_merges = 0;
  // Scratch: float32 [num_tasks][kPairsATile * num_column_tiles][head_dim] and, of two floats, the
  // same without head_dim.
  float* partial_outputs = nullptr;
  float2* partial_stats = nullptr;
  // Must be 0; is 0 again afterwards.
  uint32_t* next_task = nullptr;
  int num_multiprocessors = 0;
  int max_shared_bytes = 0;
  // Compute capability 9.0 or newer.
  bool has_dependent_launch = false;
};

// Units of 64 tokens that a task takes, of a sequence of `num_units`. Depends on nothing else, so
// that a result does not depend on what runs beside it.
constexpr int UnitsATask(int num_units) {
  // Large tasks leave fewer partial results, small ones fill the device when there is little to do:
  // short sequences, and the longest, which come few at a time.
  if (num_units <= 64) return 4;
  if (num_units <= 256) return 8;
  if (num_units <= 1024) return 16;
  return 8;
}

// cudaErrorNotSupported where the pair of formats or head_dim has no kernel.
cudaError_t LaunchAttend(const AttendLaunch& launch, cudaStream_t stream);

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_ATTEND_H_
