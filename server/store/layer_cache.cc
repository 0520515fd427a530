#include "server/store/layer_cache.h"

#include <utility>

namespace kvattend {

AppendPlan LayerCache::PlanAppend(int64_t num_tokens, int64_t recent_window) const {
  const bool tail_is_shared = !pages_.empty() && pages_.IsShared(pages_.size() - 1);
  return kvattend::PlanAppend(num_exact_, num_tokens, recent_window, tail_is_shared);
}

void LayerCache::CommitAppend(const AppendPlan& plan, UnitList blocks, UnitList pages) {
  blocks_.Append(std::move(blocks));
  if (plan.copies_tail_page) pages_.Truncate(pages_.size() - 1);
  pages_.PopFront(static_cast<size_t>(plan.num_freed_pages));
  pages_.Append(std::move(pages));
  num_exact_ = plan.num_exact_after;
}

void LayerCache::CommitCompress(UnitList blocks) {
  const size_t num_blocks = blocks.size();
  blocks_.Append(std::move(blocks));
  pages_.PopFront(num_blocks * kPagesPerBlock);
  num_exact_ -= static_cast<int>(num_blocks) * kBlockTokens;
}

void LayerCache::CommitRecode(UnitList blocks) { blocks_ = std::move(blocks); }

bool LayerCache::CanTruncate(int64_t length) const {
  return length % kBlockTokens == 0 ||
         length >= static_cast<int64_t>(blocks_.size()) * kBlockTokens;
}

void LayerCache::Truncate(int64_t length) {
  if (length >= this->length()) return;
  const int64_t compressed = static_cast<int64_t>(blocks_.size()) * kBlockTokens;
  if (length < compressed) {
    blocks_.Truncate(static_cast<size_t>(length / kBlockTokens));
    num_exact_ = 0;
  } else {
    num_exact_ = static_cast<int>(length - compressed);
  }
  pages_.Truncate(static_cast<size_t>(PagesOf(num_exact_)));
}

LayerCache LayerCache::Fork() const {
  LayerCache fork;
  fork.blocks_ = blocks_.Share();
  fork.pages_ = pages_.Share();
  fork.num_exact_ = num_exact_;
  return fork;
}

}  // namespace kvattend
