// What an append does to the exact tail of a layer.
//
// A layer compresses its oldest 64 exact tokens once it holds recent_window + 64. A long append
// does what its tokens one by one would do, but tokens that would only pass through pages go from
// staging into their block.
//
// Thread-safe: plain values and pure functions.
#ifndef KVATTEND_SERVER_STORE_APPEND_PLAN_H_
#define KVATTEND_SERVER_STORE_APPEND_PLAN_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kernels/backend.h"

namespace kvattend {

inline constexpr int kPagesPerBlock = kBlockTokens / kPageTokens;

constexpr int64_t PagesOf(int64_t num_tokens) {
  return (num_tokens + kPageTokens - 1) / kPageTokens;
}

struct AppendPlan {
  int num_tokens = 0;
  int num_exact_before = 0;
  int num_exact_after = 0;
  // Blocks to be compressed.
  int64_t num_blocks = 0;
  // New pages. With copies_tail_page the first one takes the place of the last old page, which is
  // not full and would be written, but is shared.
  int64_t num_pages = 0;
  bool copies_tail_page = false;
  // Old pages, the first ones, that compressed tokens leave behind; a copied one is not among them.
  int64_t num_freed_pages = 0;
};

// num_exact is less than recent_window + 64. tail_is_shared: whether the last page is.
AppendPlan PlanAppend(int num_exact, int64_t num_tokens, int64_t recent_window,
                      bool tail_is_shared);

// The work of appends, for the backend: copies before the others.
struct AppendTasks {
  std::vector<CopyPageTask> copies;
  std::vector<CompressTask> compressions;
  std::vector<WritePageTask> writes;
};

// Where a planned append reads and writes.
struct AppendUnits {
  LayerShape shape;
  absl::Span<const uint64_t> old_pages;
  absl::Span<const uint64_t> new_blocks;
  absl::Span<const uint64_t> new_pages;
  // float16 [num_tokens, num_kv_heads, head_dim].
  const uint16_t* keys = nullptr;
  const uint16_t* values = nullptr;
};

// Adds the tasks of one layer.
void AddAppendTasks(const AppendPlan& plan, const AppendUnits& units, AppendTasks& tasks);

// The task that compresses exact tokens 64 i to 64 i + 63 from pages.
CompressTask CompressPages(const LayerShape& shape, absl::Span<const uint64_t> pages, int64_t i,
                           uint64_t block);

}  // namespace kvattend

#endif  // KVATTEND_SERVER_STORE_APPEND_PLAN_H_
