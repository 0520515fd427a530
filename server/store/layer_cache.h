// The tokens of one layer of one session: compressed blocks, then the exact tail in pages.
//
// Blocks start at multiples of 64 tokens, pages at multiples of 16 tokens after the last block.
// Only bookkeeping: what the units hold is written by the backend before a change is committed
// here.
//
// Not thread-safe: the executor's thread owns it.
#ifndef KVATTEND_SERVER_STORE_LAYER_CACHE_H_
#define KVATTEND_SERVER_STORE_LAYER_CACHE_H_

#include <cstdint>

#include "kernels/backend.h"
#include "server/store/append_plan.h"
#include "server/store/unit_list.h"

namespace kvattend {

class LayerCache {
 public:
  int64_t length() const {
    return static_cast<int64_t>(blocks_.size()) * kBlockTokens + num_exact_;
  }
  const UnitList& blocks() const { return blocks_; }
  const UnitList& pages() const { return pages_; }
  int num_exact() const { return num_exact_; }

  // What the backend reads; valid until the layer changes.
  LayerView View(const LayerShape& shape) const {
    return {shape, blocks_.offsets(), pages_.offsets(), num_exact_};
  }

  // What an append of num_tokens does to this layer.
  AppendPlan PlanAppend(int64_t num_tokens, int64_t recent_window) const;
  // `blocks` and `pages` are those that the plan asked for.
  void CommitAppend(const AppendPlan& plan, UnitList blocks, UnitList pages);

  // The oldest exact tokens have been compressed into `blocks`.
  void CommitCompress(UnitList blocks);
  // The blocks have been recoded into `blocks`, as many as there are.
  void CommitRecode(UnitList blocks);

  // Whether Truncate(length) is possible: always, but inside a block.
  bool CanTruncate(int64_t length) const;
  // Drops the tokens from `length` on.
  void Truncate(int64_t length);

  // A layer with the same tokens, which shares all units.
  LayerCache Fork() const;

 private:
  UnitList blocks_;
  UnitList pages_;
  int num_exact_ = 0;
};

}  // namespace kvattend

#endif  // KVATTEND_SERVER_STORE_LAYER_CACHE_H_
