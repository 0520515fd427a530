#include "server/store/append_plan.h"

#include <algorithm>

namespace kvattend {
namespace {

// Tokens are numbered from the first exact token before the append: first the exact ones, then
// those of the append.
int64_t FirstWrittenToken(const AppendPlan& plan) {
  return std::max<int64_t>(plan.num_exact_before, plan.num_blocks * kBlockTokens);
}

// Values of a token.
ptrdiff_t TokenStride(const LayerShape& shape) {
  return ptrdiff_t{shape.num_kv_heads} * shape.codec.head_dim;
}

void AddCompressions(const AppendPlan& plan, const AppendUnits& units,
                     std::vector<CompressTask>& tasks) {
  for (int64_t i = 0; i < plan.num_blocks; ++i) {
    const int64_t first = i * kBlockTokens;
    const int64_t num_paged = std::clamp<int64_t>(plan.num_exact_before - first, 0, kBlockTokens);
    CompressTask task = {.shape = units.shape,
                         .block = units.new_blocks[i],
                         .num_paged = static_cast<int>(num_paged)};
    for (int64_t page = 0; page < PagesOf(num_paged); ++page) {
      task.pages[page] = units.old_pages[i * kPagesPerBlock + page];
    }
    if (num_paged < kBlockTokens) {
      const ptrdiff_t staged = first + num_paged - plan.num_exact_before;
      task.keys = units.keys + staged * TokenStride(units.shape);
      task.values = units.values + staged * TokenStride(units.shape);
    }
    tasks.push_back(task);
  }
}

void AddWrites(const AppendPlan& plan, const AppendUnits& units,
               std::vector<WritePageTask>& tasks) {
  const int64_t end = int64_t{plan.num_exact_before} + plan.num_tokens;
  const int64_t first = FirstWrittenToken(plan);
  // The page of `first`, if it is an old one, is the last old one.
  const bool continues_old_page = first % kPageTokens != 0 && !plan.copies_tail_page;
  const int64_t first_new_page = first / kPageTokens + (continues_old_page ? 1 : 0);
  for (int64_t token = first; token < end;) {
    const int64_t page = token / kPageTokens;
    const int64_t page_end = std::min(end, (page + 1) * kPageTokens);
    const ptrdiff_t staged = token - plan.num_exact_before;
    tasks.push_back({.shape = units.shape,
                     .page = page < first_new_page ? units.old_pages.back()
                                                   : units.new_pages[page - first_new_page],
                     .first_slot = static_cast<int>(token % kPageTokens),
                     .num_tokens = static_cast<int>(page_end - token),
                     .keys = units.keys + staged * TokenStride(units.shape),
                     .values = units.values + staged * TokenStride(units.shape)});
    token = page_end;
  }
}

}  // namespace

AppendPlan PlanAppend(int num_exact, int64_t num_tokens, int64_t recent_window,
                      bool tail_is_shared) {
  AppendPlan plan;
  plan.num_tokens = static_cast<int>(num_tokens);
  plan.num_exact_before = num_exact;
  const int64_t end = num_exact + num_tokens;
  plan.num_blocks = std::max<int64_t>(0, (end - recent_window) / kBlockTokens);
  plan.num_exact_after = static_cast<int>(end - plan.num_blocks * kBlockTokens);

  const int64_t old_pages = PagesOf(num_exact);
  const int64_t first = FirstWrittenToken(plan);
  plan.copies_tail_page = tail_is_shared && first < end && first % kPageTokens != 0;
  plan.num_freed_pages = std::min(old_pages, plan.num_blocks * kPagesPerBlock);
  const int64_t kept_pages = old_pages - plan.num_freed_pages - (plan.copies_tail_page ? 1 : 0);
  plan.num_pages = PagesOf(plan.num_exact_after) - kept_pages;
  return plan;
}

void AddAppendTasks(const AppendPlan& plan, const AppendUnits& units, AppendTasks& tasks) {
  if (plan.copies_tail_page) {
    tasks.copies.push_back({.shape = units.shape,
                            .source = units.old_pages.back(),
                            .destination = units.new_pages.front(),
                            .num_tokens = plan.num_exact_before % kPageTokens});
  }
  AddCompressions(plan, units, tasks.compressions);
  AddWrites(plan, units, tasks.writes);
}

CompressTask CompressPages(const LayerShape& shape, absl::Span<const uint64_t> pages, int64_t i,
                           uint64_t block) {
  CompressTask task = {.shape = shape, .block = block, .num_paged = kBlockTokens};
  for (int page = 0; page < kPagesPerBlock; ++page) {
    task.pages[page] = pages[i * kPagesPerBlock + page];
  }
  return task;
}

}  // namespace kvattend
