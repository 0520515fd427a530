#include "server/store/block_pool.h"

#include <map>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/base/error.h"
#include "tests/support/random_tensors.h"

namespace kvattend {
namespace {

using ::kvattend::testing::RandomStream;
using ::testing::ElementsAre;
using ::testing::Pair;

UnitList AllocateOne(BlockPool& pool, size_t unit_bytes, int64_t count = 1) {
  absl::StatusOr<std::vector<UnitList>> lists = pool.Allocate({{unit_bytes, count}});
  EXPECT_TRUE(lists.ok()) << lists.status();
  return lists.ok() ? std::move(lists->front()) : UnitList();
}

TEST(BlockPoolTest, UsesWholeSlabsOnly) {
  EXPECT_EQ(BlockPool(kSlabBytes - 1).capacity_bytes(), 0u);
  EXPECT_EQ(BlockPool(3 * kSlabBytes + 5).capacity_bytes(), 3 * kSlabBytes);
  EXPECT_EQ(BlockPool(3 * kSlabBytes).free_slabs(), 3);
}

TEST(BlockPoolTest, GivesUnitsBack) {
  BlockPool pool(2 * kSlabBytes);
  {
    const UnitList units = AllocateOne(pool, 4096, 3);
    EXPECT_THAT(units.offsets(), ElementsAre(0, 4096, 8192));
    EXPECT_EQ(pool.used_bytes(), 3 * 4096u);
    EXPECT_EQ(pool.free_slabs(), 1);
  }
  EXPECT_EQ(pool.used_bytes(), 0u);
  EXPECT_EQ(pool.free_slabs(), 2);
}

TEST(BlockPoolTest, ASlabServesOneSizeUntilItIsEmpty) {
  BlockPool pool(kSlabBytes);
  UnitList small = AllocateOne(pool, 256, 2);
  EXPECT_FALSE(pool.Allocate({{512, 1}}).ok());
  small.Truncate(1);
  EXPECT_FALSE(pool.Allocate({{512, 1}}).ok());
  small.Truncate(0);
  EXPECT_EQ(AllocateOne(pool, 512).offsets().front() % 512, 0u);
}

TEST(BlockPoolTest, AUnitMayTakeAWholeSlab) {
  BlockPool pool(2 * kSlabBytes);
  const UnitList large = AllocateOne(pool, kSlabBytes, 2);
  EXPECT_THAT(large.offsets(), ElementsAre(0, kSlabBytes));
  EXPECT_FALSE(pool.Allocate({{256, 1}}).ok());
}

TEST(BlockPoolTest, AllocatesEverythingOrNothing) {
  BlockPool pool(2 * kSlabBytes);
  const UnitList pages = AllocateOne(pool, kSlabBytes / 4, 2);
  // Two more fit beside them, and a slab of the other size: one unit more does not.
  const absl::StatusOr<std::vector<UnitList>> refused =
      pool.Allocate({{kSlabBytes / 4, 2}, {kSlabBytes / 2, 2}, {kSlabBytes / 4, 1}});
  ASSERT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  const ErrorDetails details = GetErrorDetails(refused.status());
  EXPECT_EQ(details.reason, "ARENA_FULL");
  EXPECT_THAT(details.metadata,
              ElementsAre(Pair("free_bytes", std::to_string(kSlabBytes + kSlabBytes / 2)),
                          Pair("needed_bytes", std::to_string(kSlabBytes + kSlabBytes * 3 / 4))));
  EXPECT_EQ(pool.used_bytes(), kSlabBytes / 2);
  EXPECT_EQ(pool.free_slabs(), 1);

  const absl::StatusOr<std::vector<UnitList>> fits =
      pool.Allocate({{kSlabBytes / 4, 2}, {kSlabBytes / 2, 2}, {256, 0}});
  ASSERT_TRUE(fits.ok()) << fits.status();
  EXPECT_EQ((*fits)[0].size(), 2u);
  EXPECT_EQ((*fits)[1].size(), 2u);
  EXPECT_TRUE((*fits)[2].empty());
  EXPECT_EQ(pool.used_bytes(), pool.capacity_bytes());
}

TEST(BlockPoolTest, ASharedUnitStaysUntilItsLastOwnerLeaves) {
  BlockPool pool(kSlabBytes);
  UnitList first = AllocateOne(pool, 1024, 2);
  EXPECT_FALSE(first.IsShared(0));
  UnitList second = first.Share();
  EXPECT_TRUE(first.IsShared(0));
  EXPECT_TRUE(second.IsShared(1));
  EXPECT_EQ(pool.used_bytes(), 2048u);
  first.PopFront(1);
  EXPECT_EQ(pool.used_bytes(), 2048u);
  EXPECT_FALSE(second.IsShared(0));
  EXPECT_TRUE(second.IsShared(1));
  second = UnitList();
  EXPECT_EQ(pool.used_bytes(), 1024u);
  first.Truncate(0);
  EXPECT_EQ(pool.used_bytes(), 0u);
}

TEST(BlockPoolTest, PrefersFullerSlabsSoThatOthersBecomeEmpty) {
  constexpr size_t kUnit = kSlabBytes / 64;
  BlockPool pool(2 * kSlabBytes);
  UnitList full = AllocateOne(pool, kUnit, 64);
  UnitList other = AllocateOne(pool, kUnit, 1);
  // Slab 0 has 8 free units now, slab 1 has 63.
  full.PopFront(8);
  const UnitList refill = AllocateOne(pool, kUnit, 8);
  for (uint64_t offset : refill.offsets()) EXPECT_LT(offset, kSlabBytes);
  other.Truncate(0);
  EXPECT_EQ(pool.free_slabs(), 1);
}

TEST(BlockPoolTest, IsDeterministic) {
  std::vector<std::vector<uint64_t>> runs;
  for (int run = 0; run < 2; ++run) {
    BlockPool pool(4 * kSlabBytes);
    RandomStream random(7);
    std::vector<UnitList> lists;
    std::vector<uint64_t>& offsets = runs.emplace_back();
    for (int i = 0; i < 500; ++i) {
      if (!lists.empty() && random.Integer(0, 2) == 0) {
        lists.erase(lists.begin() + random.Integer(0, static_cast<int64_t>(lists.size()) - 1));
      } else {
        lists.push_back(AllocateOne(pool, 4096 << random.Integer(0, 1), random.Integer(1, 3)));
        for (uint64_t offset : lists.back().offsets()) offsets.push_back(offset);
      }
    }
  }
  EXPECT_EQ(runs[0], runs[1]);
}

// A pool of sets: units by offset with their size and owners.
class Model {
 public:
  void Check(const BlockPool& pool) const {
    uint64_t used = 0;
    std::map<uint64_t, size_t> slab_sizes;
    uint64_t end = 0;
    for (const auto& [offset, unit] : units_) {
      EXPECT_GE(offset, end) << "units overlap";
      end = offset + unit.first;
      used += unit.first;
      const auto [slab, is_new] = slab_sizes.emplace(offset / kSlabBytes, unit.first);
      EXPECT_EQ(slab->second, unit.first) << "two sizes in a slab";
      EXPECT_EQ((end - 1) / kSlabBytes, slab->first) << "a unit crosses slabs";
    }
    EXPECT_LE(end, pool.capacity_bytes());
    EXPECT_EQ(pool.used_bytes(), used);
    EXPECT_EQ(pool.free_slabs() + static_cast<int64_t>(slab_sizes.size()),
              static_cast<int64_t>(pool.capacity_bytes() / kSlabBytes));
  }
  void Add(const UnitList& list, size_t unit_bytes) {
    for (uint64_t offset : list.offsets()) {
      const auto [unit, is_new] = units_.emplace(offset, std::pair(unit_bytes, 0));
      EXPECT_EQ(unit->second.first, unit_bytes);
      ++unit->second.second;
    }
  }
  void Remove(absl::Span<const uint64_t> offsets) {
    for (uint64_t offset : offsets) {
      if (--units_.at(offset).second == 0) units_.erase(offset);
    }
  }
  bool IsShared(uint64_t offset) const { return units_.at(offset).second > 1; }
  bool Has(uint64_t offset) const { return units_.count(offset) > 0; }

 private:
  std::map<uint64_t, std::pair<size_t, int>> units_;
};

TEST(BlockPoolTest, AgreesWithAModelOverRandomHistories) {
  constexpr size_t kSizes[] = {256, 768, 65536, 300032, kSlabBytes};
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    RandomStream random(seed);
    BlockPool pool(6 * kSlabBytes);
    Model model;
    std::vector<std::pair<UnitList, size_t>> lists;
    for (int step = 0; step < 400 && !::testing::Test::HasFailure(); ++step) {
      const auto pick = [&]() -> std::pair<UnitList, size_t>& {
        return lists[static_cast<size_t>(
            random.Integer(0, static_cast<int64_t>(lists.size()) - 1))];
      };
      const int64_t action = lists.empty() ? 0 : random.Integer(0, 5);
      if (action <= 1) {
        std::vector<BlockPool::Demand> demands;
        for (int64_t i = random.Integer(1, 3); i > 0; --i) {
          demands.push_back({kSizes[random.Integer(0, 4)], random.Integer(0, 5)});
        }
        absl::StatusOr<std::vector<UnitList>> got = pool.Allocate(demands);
        for (size_t i = 0; got.ok() && i < demands.size(); ++i) {
          EXPECT_EQ((*got)[i].size(), static_cast<size_t>(demands[i].count));
          for (uint64_t offset : (*got)[i].offsets()) EXPECT_FALSE(model.Has(offset));
          model.Add((*got)[i], demands[i].unit_bytes);
          lists.emplace_back(std::move((*got)[i]), demands[i].unit_bytes);
        }
      } else if (action == 2) {
        auto& [list, unit_bytes] = pick();
        model.Add(list, unit_bytes);
        UnitList copy = list.Share();
        const size_t copy_bytes = unit_bytes;
        lists.emplace_back(std::move(copy), copy_bytes);
      } else if (action == 3) {
        UnitList& list = pick().first;
        const auto count =
            static_cast<size_t>(random.Integer(0, static_cast<int64_t>(list.size())));
        model.Remove(list.offsets().subspan(0, count));
        list.PopFront(count);
      } else if (action == 4) {
        UnitList& list = pick().first;
        const auto size = static_cast<size_t>(random.Integer(0, static_cast<int64_t>(list.size())));
        model.Remove(list.offsets().subspan(size));
        list.Truncate(size);
      } else {
        std::swap(pick(), lists.back());
        model.Remove(lists.back().first.offsets());
        lists.pop_back();
      }
      model.Check(pool);
      for (const auto& [list, unit_bytes] : lists) {
        for (size_t i = 0; i < list.size(); ++i) {
          EXPECT_EQ(list.IsShared(i), model.IsShared(list[i]));
        }
      }
    }
    lists.clear();
    EXPECT_EQ(pool.used_bytes(), 0u);
    EXPECT_EQ(pool.free_slabs(), 6);
  }
}

}  // namespace
}  // namespace kvattend
