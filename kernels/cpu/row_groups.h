// How queries over layers become work for threads.
//
// A row group is up to kMaxRows query rows of one KV head of one task: they share every expansion
// of a block. Its unit of work is one split of the sequence (attention_kernels.h). Splits begin at
// multiples of kSplitTokens whatever the query and the batch, so a row's result depends on neither.
#ifndef KVATTEND_KERNELS_CPU_ROW_GROUPS_H_
#define KVATTEND_KERNELS_CPU_ROW_GROUPS_H_

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/native_block.h"
#include "kernels/cpu/thread_pool.h"

namespace kvattend {

// A layer, a query over it and how its blocks are laid out. Borrows the view and the query.
struct LayerQuery {
  LayerQuery(const LayerView& layer_view, const Query& q);

  int heads_per_group() const { return query->num_query_heads / layer->shape.num_kv_heads; }

  const LayerView* layer;
  const Query* query;
  NativePart keys;
  NativePart values;
  size_t head_bytes;
};

struct RowGroup {
  const LayerQuery* source = nullptr;
  // The caller's name for the task.
  int64_t task = 0;
  int kv_head = 0;
  // Rows of a KV head are numbered token by token, query heads ascending.
  int first_row = 0;
  int num_rows = 0;

  int token(int row) const { return (first_row + row) / source->heads_per_group(); }
  int query_head(int row) const {
    return kv_head * source->heads_per_group() + (first_row + row) % source->heads_per_group();
  }
  // Of a row in tensors [num_tokens, num_query_heads, ...].
  int64_t tensor_row(int row) const {
    return int64_t{token(row)} * source->query->num_query_heads + query_head(row);
  }
  // The first token that a row does not see.
  int64_t end(int row) const {
    return source->layer->length() - source->query->num_tokens + token(row) + 1;
  }
  int64_t first_split() const { return source->query->start_position / kSplitTokens; }
  int num_splits() const {
    return static_cast<int>((end(num_rows - 1) - 1) / kSplitTokens - first_split() + 1);
  }
};

// Appends the groups of a query, each of at most max_rows <= kMaxRows rows.
void AddRowGroups(const LayerQuery& source, int64_t task, int max_rows,
                  std::vector<RowGroup>* groups);

// What SplitTask borrows, for one split (counted from first_split()) of a group. Not copyable:
// `task` points into it.
class SplitInputs {
 public:
  SplitInputs(const RowGroup& group, int split, const uint8_t* arena, float factor);
  SplitInputs(const SplitInputs&) = delete;
  SplitInputs& operator=(const SplitInputs&) = delete;

  const SplitTask& task() const { return task_; }

 private:
  Segment MakeSegment(const RowGroup& group, int64_t index, const uint8_t* arena) const;

  SplitTask task_;
  Segment segments_[kSplitSegments];
  const float* queries_[kMaxRows];
  RowRange ranges_[kMaxRows];
};

// Calls run_split(group index, split, thread) for every split of every group, and once a group's
// splits are done finish(group index, thread).
void RunSplits(ThreadPool& pool, absl::Span<const RowGroup> groups,
               absl::FunctionRef<void(int64_t group, int split, int thread)> run_split,
               absl::FunctionRef<void(int64_t group, int thread)> finish);

}  // namespace kvattend

#endif  // KVATTEND_KERNELS_CPU_ROW_GROUPS_H_
