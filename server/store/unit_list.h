// Units of the arena, owned: the list has one reference to each and gives it back.
//
// Not thread-safe, as the pool.
#ifndef KVATTEND_SERVER_STORE_UNIT_LIST_H_
#define KVATTEND_SERVER_STORE_UNIT_LIST_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/types/span.h"

namespace kvattend {

class BlockPool;

class UnitList {
 public:
  UnitList() = default;
  UnitList(UnitList&& other) noexcept
      : pool_(other.pool_), offsets_(std::exchange(other.offsets_, {})) {}
  UnitList& operator=(UnitList&& other) noexcept;
  ~UnitList() { Truncate(0); }

  size_t size() const { return offsets_.size(); }
  bool empty() const { return offsets_.empty(); }
  absl::Span<const uint64_t> offsets() const { return offsets_; }
  uint64_t operator[](size_t index) const { return offsets_[index]; }

  // Whether somebody else has the unit too: then it must not be written.
  bool IsShared(size_t index) const;
  // The same units once more.
  UnitList Share() const;

  // Moves the other list's units to the end of this one; both are of one pool.
  void Append(UnitList other);
  // Gives back the first `count` units.
  void PopFront(size_t count);
  // Gives back all but the first `size` units.
  void Truncate(size_t size);

 private:
  friend class BlockPool;
  explicit UnitList(BlockPool* pool) : pool_(pool) {}

  BlockPool* pool_ = nullptr;
  std::vector<uint64_t> offsets_;
};

}  // namespace kvattend

#endif  // KVATTEND_SERVER_STORE_UNIT_LIST_H_
