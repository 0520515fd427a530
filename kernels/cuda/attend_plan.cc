#include "kernels/cuda/attend_plan.h"

#include <algorithm>
#include <cstdint>

namespace kvattend::cuda {

void PlanItem(int index, const AttendItem& item, const uint64_t* blocks, int head_bytes,
              int num_column_tiles, AttendPlan& plan) {
  const int num_pairs = item.num_query_tokens * item.group;
  const int pairs_a_task = kPairsATile * num_column_tiles;
  const int num_units = item.num_blocks + (item.num_exact + kTokensPerBlock - 1) / kTokensPerBlock;
  const int first_unit = item.start_position / kTokensPerBlock;
  const int units_a_task = UnitsATask(num_units);
  for (int kv_head = 0; kv_head < item.num_kv_heads; ++kv_head) {
    for (int pair = 0; pair < num_pairs; pair += pairs_a_task) {
      MergeTask merge{.item = index,
                      .kv_head = kv_head,
                      .first_pair = pair,
                      .first_task = static_cast<int32_t>(plan.tasks.size())};
      for (int unit = first_unit; unit < num_units; unit += units_a_task) {
        const bool has_block = unit < item.num_blocks;
        plan.tasks.push_back(
            {.first_block =
                 has_block ? blocks[unit] + static_cast<uint64_t>(kv_head * head_bytes) : kNoBlock,
             .item = index,
             .kv_head = static_cast<int16_t>(kv_head),
             .num_units = static_cast<int16_t>(std::min(units_a_task, num_units - unit)),
             .first_pair = pair,
             .first_unit = unit});
        ++merge.num_splits;
      }
      plan.merges.push_back(merge);
    }
  }
}

}  // namespace kvattend::cuda
