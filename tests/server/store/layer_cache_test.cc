#include "server/store/layer_cache.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/store/block_pool.h"
#include "tests/support/puppet_backend.h"
#include "tests/support/random_tensors.h"

namespace kvattend {
namespace {

using ::kvattend::testing::PuppetBackend;
using ::kvattend::testing::RandomStream;
using ::testing::ElementsAre;

const LayerShape kShape = {2, {64, {16, 4}, {32, 2}}};

TEST(AppendPlanTest, SmallAppendsOnlyWritePages) {
  const AppendPlan plan = PlanAppend(/*num_exact=*/15, /*num_tokens=*/2, /*recent_window=*/64,
                                     /*tail_is_shared=*/false);
  EXPECT_EQ(plan.num_blocks, 0);
  EXPECT_EQ(plan.num_pages, 1);
  EXPECT_EQ(plan.num_freed_pages, 0);
  EXPECT_EQ(plan.num_exact_after, 17);
}

TEST(AppendPlanTest, CompressesOnceTheWindowAndABlockAreFull) {
  EXPECT_EQ(PlanAppend(126, 1, 64, false).num_blocks, 0);
  const AppendPlan plan = PlanAppend(127, 1, 64, false);
  EXPECT_EQ(plan.num_blocks, 1);
  EXPECT_EQ(plan.num_freed_pages, 4);
  EXPECT_EQ(plan.num_pages, 0);
  EXPECT_EQ(plan.num_exact_after, 64);
}

TEST(AppendPlanTest, ALongAppendSkipsPages) {
  const AppendPlan plan = PlanAppend(0, 1000, 64, false);
  EXPECT_EQ(plan.num_blocks, 14);
  EXPECT_EQ(plan.num_exact_after, 104);
  EXPECT_EQ(plan.num_pages, 7);
  EXPECT_EQ(plan.num_freed_pages, 0);
}

TEST(AppendPlanTest, WithoutAWindowBlocksAreCompressedAtOnce) {
  const AppendPlan plan = PlanAppend(63, 1, 0, false);
  EXPECT_EQ(plan.num_blocks, 1);
  EXPECT_EQ(plan.num_pages, 0);
  EXPECT_EQ(plan.num_freed_pages, 4);
  EXPECT_EQ(plan.num_exact_after, 0);
}

TEST(AppendPlanTest, CopiesASharedPageOnlyIfItWouldBeWritten) {
  EXPECT_TRUE(PlanAppend(5, 1, 64, true).copies_tail_page);
  EXPECT_EQ(PlanAppend(5, 1, 64, true).num_pages, 1);
  EXPECT_FALSE(PlanAppend(5, 1, 64, false).copies_tail_page);
  // A full page is not written, and neither is one whose tokens are all compressed.
  EXPECT_FALSE(PlanAppend(16, 1, 64, true).copies_tail_page);
  EXPECT_FALSE(PlanAppend(60, 4, 0, true).copies_tail_page);
  EXPECT_FALSE(PlanAppend(60, 70, 0, true).copies_tail_page);
}

TEST(AppendPlanTest, TasksTakePagedTokensFromPagesAndOthersFromStaging) {
  // 20 exact tokens, 100 more, no window: a block of 20 + 44, then 56 in pages.
  const AppendPlan plan = PlanAppend(20, 100, 0, false);
  const std::vector<uint64_t> old_pages = {1000, 2000};
  const std::vector<uint64_t> new_blocks = {5000};
  const std::vector<uint64_t> new_pages = {6000, 7000, 8000, 9000};
  const std::vector<uint16_t> keys(100 * 128), values(100 * 128);
  AppendTasks tasks;
  AddAppendTasks(plan, {kShape, old_pages, new_blocks, new_pages, keys.data(), values.data()},
                 tasks);
  EXPECT_TRUE(tasks.copies.empty());
  ASSERT_EQ(tasks.compressions.size(), 1u);
  const CompressTask& compress = tasks.compressions.front();
  EXPECT_EQ(compress.block, 5000u);
  EXPECT_EQ(compress.num_paged, 20);
  EXPECT_THAT(compress.pages, ElementsAre(1000, 2000, 0, 0));
  EXPECT_EQ(compress.keys, keys.data());
  EXPECT_EQ(compress.values, values.data());
  ASSERT_EQ(tasks.writes.size(), 4u);
  EXPECT_EQ(tasks.writes[0].page, 6000u);
  EXPECT_EQ(tasks.writes[0].keys, keys.data() + 44 * 128);
  EXPECT_EQ(tasks.writes[3].page, 9000u);
  EXPECT_EQ(tasks.writes[3].num_tokens, 8);
  EXPECT_EQ(tasks.writes[3].values, values.data() + 92 * 128);
}

TEST(LayerCacheTest, TruncatesAnywhereButInsideABlock) {
  BlockPool pool(4 * kSlabBytes);
  LayerCache layer;
  std::vector<UnitList> units = *pool.Allocate({{1024, 2}, {512, 5}});
  layer.CommitAppend(PlanAppend(0, 200, 64, false), std::move(units[0]), std::move(units[1]));
  ASSERT_EQ(layer.length(), 200);
  ASSERT_EQ(layer.num_exact(), 72);
  for (int64_t length = 0; length <= 200; ++length) {
    EXPECT_EQ(layer.CanTruncate(length), length >= 128 || length % 64 == 0) << length;
  }
  layer.Truncate(145);
  EXPECT_EQ(layer.length(), 145);
  EXPECT_EQ(layer.pages().size(), 2u);
  layer.Truncate(170);
  EXPECT_EQ(layer.length(), 145);
  layer.Truncate(144);
  EXPECT_EQ(layer.pages().size(), 1u);
  layer.Truncate(64);
  EXPECT_EQ(layer.length(), 64);
  EXPECT_EQ(layer.blocks().size(), 1u);
  EXPECT_EQ(pool.used_bytes(), 1024u);
  layer.Truncate(0);
  EXPECT_EQ(pool.used_bytes(), 0u);
}

// Layers with the tokens that they should have, over a puppet that follows tokens.
class LayerHistory {
 public:
  LayerHistory(uint64_t seed, int64_t recent_window)
      : random_(seed), recent_window_(recent_window), layers_(1) {}

  void Step() {
    const auto index =
        static_cast<size_t>(random_.Integer(0, static_cast<int64_t>(layers_.size()) - 1));
    switch (random_.Integer(0, 9)) {
      case 0:
        if (layers_.size() < 6) layers_.push_back(layers_[index].Fork());
        break;
      case 1:
        if (layers_.size() > 1) layers_.erase(layers_.begin() + static_cast<ptrdiff_t>(index));
        break;
      case 2:
      case 3:
        Truncate(layers_[index]);
        break;
      case 4:
        Compress(layers_[index]);
        break;
      case 5:
        Append(layers_[index], random_.Integer(1, 400));
        break;
      default:
        Append(layers_[index], random_.Integer(1, 20));
    }
  }

  void Check() {
    std::set<uint64_t> blocks, pages;
    for (const Layer& layer : layers_) {
      const LayerCache& cache = layer.cache;
      ASSERT_EQ(backend_.Tokens(cache.View(kShape)), layer.tokens);
      ASSERT_EQ(static_cast<int64_t>(cache.pages().size()), PagesOf(cache.num_exact()));
      ASSERT_LT(cache.num_exact(), recent_window_ + kBlockTokens);
      ASSERT_EQ(cache.num_exact(), layer.num_exact);
      blocks.insert(cache.blocks().offsets().begin(), cache.blocks().offsets().end());
      pages.insert(cache.pages().offsets().begin(), cache.pages().offsets().end());
    }
    ASSERT_EQ(pool_.used_bytes(), blocks.size() * backend_.BlockBytes(kShape) +
                                      pages.size() * backend_.PageBytes(kShape));
  }

  void Clear() { layers_.clear(); }
  uint64_t used_bytes() const { return pool_.used_bytes(); }

 private:
  struct Layer {
    LayerCache cache;
    std::vector<int> tokens;
    // As the rule has it, applied token by token.
    int num_exact = 0;

    Layer Fork() const { return {cache.Fork(), tokens, num_exact}; }
  };

  void Append(Layer& layer, int64_t num_tokens) {
    const AppendPlan plan = layer.cache.PlanAppend(num_tokens, recent_window_);
    std::vector<UnitList> units = *pool_.Allocate({{backend_.BlockBytes(kShape), plan.num_blocks},
                                                   {backend_.PageBytes(kShape), plan.num_pages}});
    const auto stride = static_cast<size_t>(kShape.num_kv_heads * kShape.codec.head_dim);
    std::vector<uint16_t> keys(static_cast<size_t>(num_tokens) * stride);
    for (int64_t i = 0; i < num_tokens; ++i) {
      const int tag = next_tag_++ % 30000;
      keys[static_cast<size_t>(i) * stride] = static_cast<uint16_t>(tag);
      layer.tokens.push_back(tag);
      if (++layer.num_exact == recent_window_ + kBlockTokens) layer.num_exact -= kBlockTokens;
    }
    AppendTasks tasks;
    AddAppendTasks(plan,
                   {kShape, layer.cache.pages().offsets(), units[0].offsets(), units[1].offsets(),
                    keys.data(), keys.data()},
                   tasks);
    ASSERT_TRUE(backend_.CopyPages(tasks.copies).ok());
    ASSERT_TRUE(backend_.Append(tasks.compressions, tasks.writes).ok());
    layer.cache.CommitAppend(plan, std::move(units[0]), std::move(units[1]));
  }

  void Truncate(Layer& layer) {
    const auto old_length = static_cast<int64_t>(layer.tokens.size());
    // Mostly a little, sometimes into the blocks.
    int64_t length = random_.Integer(std::max<int64_t>(0, old_length - 40), old_length);
    if (random_.Integer(0, 3) == 0) length = random_.Integer(0, old_length / 64) * 64;
    const int64_t compressed = old_length - layer.num_exact;
    ASSERT_EQ(layer.cache.CanTruncate(length), length >= compressed || length % 64 == 0);
    if (!layer.cache.CanTruncate(length)) return;
    layer.cache.Truncate(length);
    layer.tokens.resize(static_cast<size_t>(length));
    layer.num_exact = static_cast<int>(std::max<int64_t>(0, length - compressed));
  }

  void Compress(Layer& layer) {
    const int64_t num_blocks = layer.num_exact / kBlockTokens;
    std::vector<UnitList> units = *pool_.Allocate({{backend_.BlockBytes(kShape), num_blocks}});
    std::vector<CompressTask> tasks;
    for (int64_t i = 0; i < num_blocks; ++i) {
      tasks.push_back(CompressPages(kShape, layer.cache.pages().offsets(), i,
                                    units[0][static_cast<size_t>(i)]));
    }
    ASSERT_TRUE(backend_.Append(tasks, {}).ok());
    layer.cache.CommitCompress(std::move(units[0]));
    layer.num_exact %= kBlockTokens;
  }

  RandomStream random_;
  const int64_t recent_window_;
  PuppetBackend backend_{64 * kSlabBytes};
  BlockPool pool_{64 * kSlabBytes};
  std::vector<Layer> layers_;
  int next_tag_ = 0;
};

class LayerHistoryTest : public ::testing::TestWithParam<int64_t> {};

TEST_P(LayerHistoryTest, EveryLayerKeepsItsOwnTokens) {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    SCOPED_TRACE(seed);
    LayerHistory history(seed, GetParam());
    for (int step = 0; step < 200; ++step) {
      history.Step();
      history.Check();
      if (HasFatalFailure() || HasNonfatalFailure()) return;
    }
    history.Clear();
    EXPECT_EQ(history.used_bytes(), 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(RecentWindows, LayerHistoryTest,
                         ::testing::Values(0, 1, 15, 16, 63, 64, 65, 200));

}  // namespace
}  // namespace kvattend
