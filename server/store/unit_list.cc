#include "server/store/unit_list.h"

#include "server/store/block_pool.h"

namespace kvattend {

UnitList& UnitList::operator=(UnitList&& other) noexcept {
  if (this != &other) {
    Truncate(0);
    pool_ = other.pool_;
    offsets_ = std::exchange(other.offsets_, {});
  }
  return *this;
}

bool UnitList::IsShared(size_t index) const { return pool_->IsShared(offsets_[index]); }

UnitList UnitList::Share() const {
  UnitList copy(pool_);
  copy.offsets_ = offsets_;
  for (uint64_t offset : offsets_) pool_->AddReference(offset);
  return copy;
}

void UnitList::Append(UnitList other) {
  if (other.empty()) return;
  pool_ = other.pool_;
  offsets_.insert(offsets_.end(), other.offsets_.begin(), other.offsets_.end());
  other.offsets_.clear();
}

void UnitList::PopFront(size_t count) {
  for (size_t i = 0; i < count; ++i) pool_->Release(offsets_[i]);
  offsets_.erase(offsets_.begin(), offsets_.begin() + static_cast<ptrdiff_t>(count));
}

void UnitList::Truncate(size_t size) {
  while (offsets_.size() > size) {
    pool_->Release(offsets_.back());
    offsets_.pop_back();
  }
}

}  // namespace kvattend
