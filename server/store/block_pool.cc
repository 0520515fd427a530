#include "server/store/block_pool.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/error.h"

namespace kvattend {
namespace {

int Level(size_t free_units) { return std::bit_width(free_units) - 1; }

int64_t UnitsPerSlab(size_t unit_bytes) { return static_cast<int64_t>(kSlabBytes / unit_bytes); }

}  // namespace

BlockPool::BlockPool(uint64_t arena_bytes) : slabs_(arena_bytes / kSlabBytes) {
  free_slabs_.reserve(slabs_.size());
  // Low slabs are taken first.
  for (size_t i = slabs_.size(); i > 0; --i) free_slabs_.push_back(static_cast<uint32_t>(i - 1));
}

absl::StatusOr<std::vector<UnitList>> BlockPool::Allocate(absl::Span<const Demand> demands) {
  std::map<size_t, int64_t> needed_units;
  for (const Demand& demand : demands) {
    if (demand.count > 0) needed_units[demand.unit_bytes] += demand.count;
  }
  int64_t needed_slabs = 0;
  uint64_t needed_bytes = 0;
  uint64_t free_bytes = free_slabs_.size() * kSlabBytes;
  for (const auto& [unit_bytes, count] : needed_units) {
    const auto found = size_classes_.find(unit_bytes);
    const int64_t free_units = found == size_classes_.end() ? 0 : found->second.free_units;
    const int64_t units_per_slab = UnitsPerSlab(unit_bytes);
    const int64_t missing_units = std::max<int64_t>(0, count - free_units);
    needed_slabs += (missing_units + units_per_slab - 1) / units_per_slab;
    needed_bytes += static_cast<uint64_t>(count) * unit_bytes;
    free_bytes += static_cast<uint64_t>(free_units) * unit_bytes;
  }
  if (needed_slabs > free_slabs()) {
    return Error(absl::StatusCode::kResourceExhausted, "ARENA_FULL",
                 absl::StrCat("the arena is full: ", needed_bytes, " bytes are needed, ",
                              free_bytes, " of ", capacity_bytes(), " bytes are free"))
        .With("needed_bytes", static_cast<int64_t>(needed_bytes))
        .With("free_bytes", static_cast<int64_t>(free_bytes));
  }

  std::vector<UnitList> lists;
  lists.reserve(demands.size());
  for (const Demand& demand : demands) {
    UnitList list(this);
    if (demand.count > 0) {
      SizeClass& size_class = size_classes_[demand.unit_bytes];
      size_class.unit_bytes = demand.unit_bytes;
      list.offsets_.reserve(static_cast<size_t>(demand.count));
      for (int64_t i = 0; i < demand.count; ++i) list.offsets_.push_back(AllocateUnit(size_class));
    }
    lists.push_back(std::move(list));
  }
  return lists;
}

uint64_t BlockPool::AllocateUnit(SizeClass& size_class) {
  const uint32_t slab_index = size_class.levels == 0
                                  ? TakeSlab(size_class)
                                  : size_class.first_slab[std::countr_zero(size_class.levels)];
  Unlink(slab_index);
  Slab& slab = slabs_[slab_index];
  const uint32_t unit = slab.free_units.back();
  slab.free_units.pop_back();
  slab.references[unit] = 1;
  if (!slab.free_units.empty()) Link(slab_index);
  --size_class.free_units;
  used_bytes_ += size_class.unit_bytes;
  return uint64_t{slab_index} * kSlabBytes + uint64_t{unit} * size_class.unit_bytes;
}

void BlockPool::Release(uint64_t offset) {
  if (--Reference(offset) > 0) return;
  const auto slab_index = static_cast<uint32_t>(offset / kSlabBytes);
  Slab& slab = slabs_[slab_index];
  SizeClass& size_class = *slab.size_class;
  if (!slab.free_units.empty()) Unlink(slab_index);
  slab.free_units.push_back(static_cast<uint32_t>(offset % kSlabBytes / size_class.unit_bytes));
  ++size_class.free_units;
  used_bytes_ -= size_class.unit_bytes;
  if (slab.free_units.size() == slab.references.size()) {
    ReturnSlab(slab_index);
  } else {
    Link(slab_index);
  }
}

uint32_t& BlockPool::Reference(uint64_t offset) {
  Slab& slab = slabs_[offset / kSlabBytes];
  return slab.references[offset % kSlabBytes / slab.size_class->unit_bytes];
}

uint32_t BlockPool::TakeSlab(SizeClass& size_class) {
  const uint32_t slab_index = free_slabs_.back();
  free_slabs_.pop_back();
  Slab& slab = slabs_[slab_index];
  const auto num_units = static_cast<uint32_t>(UnitsPerSlab(size_class.unit_bytes));
  slab.size_class = &size_class;
  slab.references.assign(num_units, 0);
  slab.free_units.resize(num_units);
  // Low units are taken first.
  for (uint32_t i = 0; i < num_units; ++i) slab.free_units[i] = num_units - 1 - i;
  ++size_class.num_slabs;
  size_class.free_units += num_units;
  Link(slab_index);
  return slab_index;
}

void BlockPool::ReturnSlab(uint32_t slab_index) {
  SizeClass& size_class = *std::exchange(slabs_[slab_index].size_class, nullptr);
  size_class.free_units -= static_cast<int64_t>(slabs_[slab_index].free_units.size());
  free_slabs_.push_back(slab_index);
  if (--size_class.num_slabs == 0) size_classes_.erase(size_class.unit_bytes);
}

void BlockPool::Link(uint32_t slab_index) {
  Slab& slab = slabs_[slab_index];
  const int level = Level(slab.free_units.size());
  uint32_t& first = slab.size_class->first_slab[level];
  const bool has_others = (slab.size_class->levels >> level & 1u) != 0;
  slab.previous = kNoSlab;
  slab.next = has_others ? first : kNoSlab;
  if (has_others) slabs_[first].previous = slab_index;
  first = slab_index;
  slab.size_class->levels |= 1u << level;
}

void BlockPool::Unlink(uint32_t slab_index) {
  const Slab& slab = slabs_[slab_index];
  const int level = Level(slab.free_units.size());
  if (slab.next != kNoSlab) slabs_[slab.next].previous = slab.previous;
  if (slab.previous != kNoSlab) {
    slabs_[slab.previous].next = slab.next;
  } else if (slab.next != kNoSlab) {
    slab.size_class->first_slab[level] = slab.next;
  } else {
    slab.size_class->levels &= ~(1u << level);
  }
}

}  // namespace kvattend
