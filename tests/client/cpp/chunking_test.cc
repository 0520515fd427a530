#include "client/cpp/chunking.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace kvattend::client {
namespace {

using ::testing::ElementsAre;

TEST(PlanAppendTest, OneChunkWhereEverythingFits) {
  EXPECT_THAT(PlanAppend(3, 100, 1000, 300'000 + kMessageHeadroomBytes),
              ElementsAre(AppendChunk{0, 3, 0, 100}));
}

TEST(PlanAppendTest, OneByteLessMakesTwoChunks) {
  EXPECT_THAT(PlanAppend(3, 100, 1000, 300'000 + kMessageHeadroomBytes - 1),
              ElementsAre(AppendChunk{0, 3, 0, 99}, AppendChunk{0, 3, 99, 1}));
}

TEST(PlanAppendTest, LayersStayTogether) {
  EXPECT_THAT(
      PlanAppend(2, 5, 1000, 4000 + kMessageHeadroomBytes),
      ElementsAre(AppendChunk{0, 2, 0, 2}, AppendChunk{0, 2, 2, 2}, AppendChunk{0, 2, 4, 1}));
}

TEST(PlanAppendTest, LayersTakeTurnsWhereATokenOfAllIsTooLarge) {
  EXPECT_THAT(PlanAppend(3, 2, 1000, 2000 + kMessageHeadroomBytes),
              ElementsAre(AppendChunk{0, 2, 0, 1}, AppendChunk{2, 1, 0, 1}, AppendChunk{0, 2, 1, 1},
                          AppendChunk{2, 1, 1, 1}));
}

TEST(PlanAppendTest, TokenThatIsTooLargeIsItsOwnChunk) {
  EXPECT_THAT(PlanAppend(1, 2, 1'000'000, 1000),
              ElementsAre(AppendChunk{0, 1, 0, 1}, AppendChunk{0, 1, 1, 1}));
}

TEST(PlanAppendTest, ChunksCoverEveryTokenOnceWithinTheLimit) {
  for (int layers : {1, 2, 7, 64}) {
    for (int64_t tokens : {1, 63, 64, 1000}) {
      for (int64_t token_bytes : {256, 4096, 70'000}) {
        constexpr int64_t kLimit = 1 << 20;
        std::vector<int> seen(layers * tokens, 0);
        for (const AppendChunk& chunk : PlanAppend(layers, tokens, token_bytes, kLimit)) {
          EXPECT_LE(chunk.num_layers * chunk.num_tokens * token_bytes,
                    kLimit - kMessageHeadroomBytes);
          for (int l = chunk.first_layer; l < chunk.first_layer + chunk.num_layers; ++l) {
            for (int64_t t = chunk.first_token; t < chunk.first_token + chunk.num_tokens; ++t) {
              // A layer's tokens come in order: the one before is there already.
              EXPECT_TRUE(t == 0 || seen[l * tokens + t - 1] == 1);
              ++seen[l * tokens + t];
            }
          }
        }
        EXPECT_TRUE(std::all_of(seen.begin(), seen.end(), [](int n) { return n == 1; }));
      }
    }
  }
}

TEST(TokensPerMessageTest, RoundsDownToTheGranularityButGivesAtLeastThat) {
  EXPECT_EQ(TokensPerMessage(100, 64, 100 * 200 + kMessageHeadroomBytes), 192);
  EXPECT_EQ(TokensPerMessage(100, 64, 100 * 63 + kMessageHeadroomBytes), 64);
  EXPECT_EQ(TokensPerMessage(100, 1, 0), 1);
}

TEST(PlanBatchesTest, NoItemsNoCalls) { EXPECT_TRUE(PlanBatches({}, 10, 1 << 20).empty()); }

TEST(PlanBatchesTest, ShardsDoNotShareCallsAndKeepTheirOrder) {
  const std::vector<BatchItem> items = {{"a", 10, 10}, {"b", 10, 10}, {"a", 10, 10}, {"b", 10, 10}};
  EXPECT_THAT(PlanBatches(items, 10, 1 << 20), ElementsAre(ElementsAre(0, 2), ElementsAre(1, 3)));
}

TEST(PlanBatchesTest, SplitsByItems) {
  const std::vector<BatchItem> items(5, BatchItem{"", 10, 10});
  EXPECT_THAT(PlanBatches(items, 2, 1 << 20),
              ElementsAre(ElementsAre(0, 1), ElementsAre(2, 3), ElementsAre(4)));
}

TEST(PlanBatchesTest, SplitsByRequestAndByResponseSize) {
  constexpr int64_t kBudget = 100'000;
  for (const BatchItem& item : {BatchItem{"", 40'000, 1}, BatchItem{"", 1, 40'000}}) {
    const std::vector<BatchItem> items(5, item);
    EXPECT_THAT(PlanBatches(items, 100, kBudget + kMessageHeadroomBytes),
                ElementsAre(ElementsAre(0, 1), ElementsAre(2, 3), ElementsAre(4)));
  }
}

TEST(PlanBatchesTest, ItemThatIsTooLargeGoesAlone) {
  EXPECT_THAT(PlanBatches({{"", 10, 10}, {"", 1 << 30, 10}, {"", 10, 10}}, 100, 1 << 20),
              ElementsAre(ElementsAre(0), ElementsAre(1), ElementsAre(2)));
}

}  // namespace
}  // namespace kvattend::client
