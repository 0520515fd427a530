#include "kernels/cpu/row_groups.h"

#include <algorithm>
#include <atomic>
#include <memory>

#include "kernels/cpu/page.h"

namespace kvattend {

LayerQuery::LayerQuery(const LayerView& layer_view, const Query& q)
    : layer(&layer_view),
      query(&q),
      keys(MakeNativePart(layer_view.shape.codec, VectorRole::kKey)),
      values(MakeNativePart(layer_view.shape.codec, VectorRole::kValue)),
      head_bytes(keys.layout.size_bytes + values.layout.size_bytes) {}

void AddRowGroups(const LayerQuery& source, int64_t task, int max_rows,
                  std::vector<RowGroup>* groups) {
  const int num_rows = source.query->num_tokens * source.heads_per_group();
  for (int kv_head = 0; kv_head < source.layer->shape.num_kv_heads; ++kv_head) {
    for (int row = 0; row < num_rows; row += max_rows) {
      groups->push_back({&source, task, kv_head, row, std::min(max_rows, num_rows - row)});
    }
  }
}

SplitInputs::SplitInputs(const RowGroup& group, int split, const uint8_t* arena, float factor) {
  const LayerQuery& source = *group.source;
  const int64_t first_token = (group.first_split() + split) * kSplitTokens;
  const auto in_split = [first_token](int64_t token) {
    return static_cast<int>(std::clamp<int64_t>(token - first_token, 0, kSplitTokens));
  };
  const int begin = in_split(source.query->start_position);
  for (int r = 0; r < group.num_rows; ++r) {
    queries_[r] = source.query->data + group.tensor_row(r) * source.keys.head_dim;
    ranges_[r] = {begin, std::max(begin, in_split(group.end(r)))};
  }
  const int num_segments = (ranges_[group.num_rows - 1].end + kBlockTokens - 1) / kBlockTokens;
  const int first_segment = begin / kBlockTokens;
  for (int s = first_segment; s < num_segments; ++s) {
    segments_[s] = MakeSegment(group, first_token / kBlockTokens + s, arena);
  }
  task_.keys = &source.keys;
  task_.values = &source.values;
  task_.segments = absl::MakeConstSpan(segments_, num_segments);
  task_.first_segment = first_segment;
  task_.num_rows = group.num_rows;
  task_.queries = queries_;
  task_.ranges = ranges_;
  task_.factor = factor;
}

Segment SplitInputs::MakeSegment(const RowGroup& group, int64_t index, const uint8_t* arena) const {
  const LayerQuery& source = *group.source;
  const LayerView& layer = *source.layer;
  const int64_t num_blocks = static_cast<int64_t>(layer.blocks.size());
  Segment segment;
  if (index < num_blocks) {
    segment.keys = arena + layer.blocks[index] + group.kv_head * source.head_bytes;
    segment.values = segment.keys + source.keys.layout.size_bytes;
    segment.num_tokens = kBlockTokens;
    return segment;
  }
  constexpr int kPages = kBlockTokens / kPageTokens;
  const int64_t first_page = (index - num_blocks) * kPages;
  segment.num_tokens =
      static_cast<int>(std::min<int64_t>(kBlockTokens, layer.num_exact - first_page * kPageTokens));
  for (int p = 0; p * kPageTokens < segment.num_tokens; ++p) {
    const auto* const page = reinterpret_cast<const uint16_t*>(arena + layer.pages[first_page + p]);
    segment.page_keys[p] = PageKeys(page, source.keys.head_dim, group.kv_head);
    segment.page_values[p] = PageValues(page, source.keys.head_dim, group.kv_head);
  }
  return segment;
}

void RunSplits(ThreadPool& pool, absl::Span<const RowGroup> groups,
               absl::FunctionRef<void(int64_t group, int split, int thread)> run_split,
               absl::FunctionRef<void(int64_t group, int thread)> finish) {
  struct Unit {
    int64_t group;
    int split;
  };
  std::vector<Unit> units;
  const auto unfinished = std::make_unique<std::atomic<int>[]>(groups.size());
  for (size_t g = 0; g < groups.size(); ++g) {
    const int num_splits = groups[g].num_splits();
    unfinished[g].store(num_splits, std::memory_order_relaxed);
    for (int split = 0; split < num_splits; ++split) {
      units.push_back({static_cast<int64_t>(g), split});
    }
  }
  pool.ParallelFor(static_cast<int64_t>(units.size()), [&](int64_t index, int thread) {
    const Unit& unit = units[index];
    run_split(unit.group, unit.split, thread);
    // Whoever finishes a group last sees what the others wrote.
    if (unfinished[unit.group].fetch_sub(1, std::memory_order_acq_rel) == 1) {
      finish(unit.group, thread);
    }
  });
}

}  // namespace kvattend
