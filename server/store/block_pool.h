// Who has which part of the arena.
//
// The arena is cut into slabs of 2 MiB. A slab holds units of one size while any of them is used,
// and is anybody's again when the last one is given back; so memory moves between sizes, and a unit
// is found by its offset alone. Allocation prefers fuller slabs, so that emptier ones become empty.
// Units are reference counted: forks share them. Allocating and releasing a unit takes constant
// time (a slab's first unit: time for its free list); the same calls give the same offsets.
//
// The pool deals in offsets only; the memory is the backend's.
//
// Not thread-safe: the executor's thread owns it. Outlives its UnitLists.
#ifndef KVATTEND_SERVER_STORE_BLOCK_POOL_H_
#define KVATTEND_SERVER_STORE_BLOCK_POOL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/store/unit_list.h"

namespace kvattend {

// Also the largest size of a unit.
inline constexpr size_t kSlabBytes = size_t{2} << 20;

class BlockPool {
 public:
  // What does not fill a slab at the arena's end is not used.
  explicit BlockPool(uint64_t arena_bytes);
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  struct Demand {
    // 1 to kSlabBytes.
    size_t unit_bytes = 0;
    int64_t count = 0;
  };
  // A list of units for each demand: all of them or none. RESOURCE_EXHAUSTED ARENA_FULL with
  // "needed_bytes" and "free_bytes", the latter only what units of these sizes could use.
  absl::StatusOr<std::vector<UnitList>> Allocate(absl::Span<const Demand> demands);

  uint64_t capacity_bytes() const { return slabs_.size() * kSlabBytes; }
  // Bytes of the units that somebody has; shared ones count once.
  uint64_t used_bytes() const { return used_bytes_; }
  int64_t free_slabs() const { return static_cast<int64_t>(free_slabs_.size()); }

 private:
  friend class UnitList;

  static constexpr uint32_t kNoSlab = UINT32_MAX;
  // Slabs are kept by the bit width of their number of free units: close enough to an order by
  // fullness, and found in constant time. The smallest unit, 1 byte, asks for 22 widths.
  static constexpr int kNumLevels = 22;

  struct SizeClass {
    size_t unit_bytes = 0;
    int64_t num_slabs = 0;
    int64_t free_units = 0;
    // Bit l is set where list l has a slab.
    uint32_t levels = 0;
    std::array<uint32_t, kNumLevels> first_slab;
  };
  struct Slab {
    // Null while the slab is free.
    SizeClass* size_class = nullptr;
    // Of each unit; 0 where it is free.
    std::vector<uint32_t> references;
    // The free units' numbers; the last one is next.
    std::vector<uint32_t> free_units;
    // Neighbours in its list.
    uint32_t previous = kNoSlab;
    uint32_t next = kNoSlab;
  };

  uint64_t AllocateUnit(SizeClass& size_class);
  void AddReference(uint64_t offset) { ++Reference(offset); }
  void Release(uint64_t offset);
  bool IsShared(uint64_t offset) { return Reference(offset) > 1; }

  uint32_t& Reference(uint64_t offset);
  uint32_t TakeSlab(SizeClass& size_class);
  void ReturnSlab(uint32_t slab_index);
  // Lists know slabs with free units only.
  void Link(uint32_t slab_index);
  void Unlink(uint32_t slab_index);

  // By unit size; only sizes that have a slab. Nodes stay where they are.
  std::map<size_t, SizeClass> size_classes_;
  std::vector<Slab> slabs_;
  std::vector<uint32_t> free_slabs_;
  uint64_t used_bytes_ = 0;
};

}  // namespace kvattend

#endif  // KVATTEND_SERVER_STORE_BLOCK_POOL_H_
