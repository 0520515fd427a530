// Cuts attention over layers into the tasks of attend.h, on the host.
//
// Thread-compatible.
#ifndef KVATTEND_KERNELS_CUDA_ATTEND_PLAN_H_
#define KVATTEND_KERNELS_CUDA_ATTEND_PLAN_H_

#include <cstdint>
#include <vector>

#include "kernels/cuda/attend.h"

namespace kvattend::cuda {

struct AttendPlan {
  std::vector<AttendTask> tasks;
  std::vector<MergeTask> merges;
};

// Column tiles that suit a call whose widest item has `max_pairs` pairs of a query token and a
// query head for each KV head.
constexpr int ColumnTilesFor(int max_pairs) {
  return max_pairs <= kPairsATile ? 1 : kMaxColumnTiles;
}

// Adds the work of item number `index`. Pointers of `item` are not read; `blocks` are the offsets
// of its blocks, on the host, and `head_bytes` what a block takes for one KV head.
void PlanItem(int index, const AttendItem& item, const uint64_t* blocks, int head_bytes,
              int num_column_tiles, AttendPlan& plan);

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_ATTEND_PLAN_H_
