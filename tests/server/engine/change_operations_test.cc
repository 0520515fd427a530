// CompressSession and TruncateSession.
#include "tests/server/engine/puppet_engine_test.h"

namespace kvattend::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Pair;

class ChangeOperationsTest : public PuppetEngineTest {
 protected:
  static constexpr CodecSpec kSmaller = {64, {16, 2}, {32, 4}};

  ChangeOperationsTest() { Create("a"); }

  int64_t smaller_block_bytes() { return static_cast<int64_t>(backend_.BlockBytes({2, kSmaller})); }
};

TEST_F(ChangeOperationsTest, TruncatesInTheExactTail) {
  Fill("a", 200);
  const int64_t stored = kv_bytes();
  const absl::StatusOr<SessionChange> change = harness_.Truncate("a", 150);
  ASSERT_TRUE(change.ok()) << change.status();
  EXPECT_THAT(change->session.layer_lengths, ElementsAre(150, 150, 150));
  EXPECT_EQ(change->session.revision, 2);
  // 72 exact tokens in 5 pages became 22 in 2.
  EXPECT_EQ(change->freed_bytes, 3 * 3 * page_bytes());
  EXPECT_EQ(kv_bytes(), stored - change->freed_bytes);
  EXPECT_EQ(harness_.engine().memory_use().dense_bytes, change->session.dense_bytes);
  EXPECT_EQ(TokensOf("a", 1), Range(0, 150));
  AppendEntry entry = Entry("a", {0, 1, 2}, 150, 200);
  entry.revision = 2;
  ASSERT_TRUE(AppendOne(entry).status.ok());
  EXPECT_EQ(TokensOf("a", 1), Range(0, 350));
}

TEST_F(ChangeOperationsTest, TruncatesCompressedTokensAtBlocksOnly) {
  Fill("a", 300);
  ASSERT_TRUE(AppendOne(Entry("a", {1}, 300, 200)).status.ok());
  // Layer 0 has 192 compressed tokens, layer 1 has 384.
  const absl::StatusOr<SessionChange> refused = harness_.Truncate("a", 250);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  const ErrorDetails details = GetErrorDetails(refused.status());
  EXPECT_EQ(details.reason, "TRUNCATE_INSIDE_BLOCK");
  EXPECT_EQ(details.field, "length");
  EXPECT_THAT(details.metadata, ElementsAre(Pair("layer", "1"), Pair("nearest_above", "256"),
                                            Pair("nearest_below", "192")));
  EXPECT_EQ(harness_.Get("a")->revision, 1);
  EXPECT_THAT(harness_.Get("a")->layer_lengths, ElementsAre(300, 500, 300));

  ASSERT_TRUE(harness_.Truncate("a", 256).ok());
  EXPECT_THAT(harness_.Get("a")->layer_lengths, ElementsAre(256, 256, 256));
  EXPECT_EQ(TokensOf("a", 0), Range(0, 256));
  EXPECT_EQ(TokensOf("a", 1), Range(0, 256));
  ASSERT_TRUE(harness_.Truncate("a", 64).ok());
  EXPECT_EQ(kv_bytes(), 3 * block_bytes());
  ASSERT_TRUE(harness_.Truncate("a", 0).ok());
  EXPECT_EQ(kv_bytes(), 0);
  EXPECT_EQ(harness_.Get("a")->revision, 4);
}

TEST_F(ChangeOperationsTest, ShorterLayersStayAsTheyAre) {
  ASSERT_TRUE(AppendOne(Entry("a", {0}, 0, 50)).status.ok());
  ASSERT_TRUE(AppendOne(Entry("a", {1}, 0, 20)).status.ok());
  ASSERT_TRUE(harness_.Truncate("a", 30).ok());
  EXPECT_THAT(harness_.Get("a")->layer_lengths, ElementsAre(30, 20, 0));
  const absl::Status beyond = harness_.Truncate("a", 31).status();
  EXPECT_EQ(beyond.code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(ReasonOf(beyond), "LENGTH_BEYOND_END");
  EXPECT_THAT(GetErrorDetails(beyond).metadata, ElementsAre(Pair("longest_layer_length", "30")));
  // Nothing to drop is a truncation too.
  EXPECT_EQ(harness_.Truncate("a", 30)->session.revision, 3);
}

TEST_F(ChangeOperationsTest, TruncatingAForkLeavesTheOther) {
  Fill("a", 200);
  const int64_t stored = kv_bytes();
  ASSERT_TRUE(harness_.Fork("a", "b").ok());
  EXPECT_EQ(harness_.Truncate("b", 140)->freed_bytes, 0);
  AppendEntry entry = Entry("b", {0, 1, 2}, 140, 3);
  entry.revision = 2;
  ASSERT_TRUE(AppendOne(entry, 1000).status.ok());
  EXPECT_EQ(kv_bytes(), stored + 3 * page_bytes());
  EXPECT_EQ(TokensOf("a", 2), Range(0, 200));
  std::vector<int> expected = Range(0, 140);
  for (int tag : Range(1140, 1143)) expected.push_back(tag);
  EXPECT_EQ(TokensOf("b", 2), expected);
  // What only the session had goes back: its last two pages and the one that "b" copied.
  EXPECT_EQ(harness_.Truncate("a", 128)->freed_bytes, 3 * 5 * page_bytes());
  EXPECT_EQ(TokensOf("b", 2), expected);
}

TEST_F(ChangeOperationsTest, CompressesTheExactWindow) {
  Fill("a", 191);
  const int64_t stored = kv_bytes();
  EXPECT_EQ(stored, 3 * (block_bytes() + 8 * page_bytes()));
  const absl::StatusOr<SessionChange> change = harness_.Compress("a", 0);
  ASSERT_TRUE(change.ok()) << change.status();
  // 127 exact tokens: one block, and 63 stay.
  EXPECT_EQ(change->freed_bytes, 3 * (4 * page_bytes() - block_bytes()));
  EXPECT_EQ(kv_bytes(), stored - change->freed_bytes);
  EXPECT_EQ(change->session.revision, 2);
  EXPECT_THAT(change->session.layer_lengths, ElementsAre(191, 191, 191));
  EXPECT_EQ(TokensOf("a", 0), Range(0, 191));
  AppendEntry entry = Entry("a", {0, 1, 2}, 191, 100);
  entry.revision = 2;
  ASSERT_TRUE(AppendOne(entry).status.ok());
  EXPECT_EQ(TokensOf("a", 0), Range(0, 291));
}

TEST_F(ChangeOperationsTest, KeepsAsManyExactTokensAsAsked) {
  CreateSessionParams params = Params("b");
  params.recent_window = 300;
  ASSERT_TRUE(harness_.Create(params).ok());
  Fill("b", 350);
  const auto blocks = [&] {
    return (harness_.Get("b")->stored_bytes / 3 - (350 + 15) / 16 * page_bytes()) /
           (block_bytes() - 4 * page_bytes());
  };
  EXPECT_EQ(blocks(), 0);
  ASSERT_TRUE(harness_.Compress("b", std::nullopt).ok());
  EXPECT_EQ(blocks(), 0);
  ASSERT_TRUE(harness_.Compress("b", 223).ok());
  EXPECT_EQ(blocks(), 1);
  ASSERT_TRUE(harness_.Compress("b", 222).ok());
  EXPECT_EQ(blocks(), 2);
  EXPECT_EQ(TokensOf("b", 0), Range(0, 350));
  const absl::Status status = harness_.Compress("b", 301).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReasonOf(status), "KEEP_EXACT_OUT_OF_RANGE");
}

TEST_F(ChangeOperationsTest, RecodesTheWholeSession) {
  Fill("a", 300);
  const int64_t stored = kv_bytes();
  const absl::StatusOr<SessionChange> change = harness_.Compress("a", std::nullopt, kSmaller);
  ASSERT_TRUE(change.ok()) << change.status();
  EXPECT_EQ(change->session.codec, kSmaller);
  EXPECT_EQ(change->freed_bytes, 3 * 3 * (block_bytes() - smaller_block_bytes()));
  EXPECT_EQ(kv_bytes(), stored - change->freed_bytes);
  EXPECT_EQ(change->session.stored_bytes, kv_bytes());
  // The puppet checks that blocks and the session have one codec.
  EXPECT_EQ(TokensOf("a", 0), Range(0, 300));
  AppendEntry entry = Entry("a", {0, 1, 2}, 300, 100);
  entry.revision = 2;
  ASSERT_TRUE(AppendOne(entry).status.ok());
  EXPECT_EQ(TokensOf("a", 0), Range(0, 400));
  EXPECT_THAT(
      harness_.metrics().Get().compressed,
      Contains(Pair("custom", Pair(3 * 5 * 64 * 2 * 64 * 4, 3 * 5 * smaller_block_bytes()))));
  ASSERT_TRUE(harness_.Delete("a").ok());
  EXPECT_EQ(kv_bytes(), 0);
}

TEST_F(ChangeOperationsTest, RecodingAForkLeavesTheOther) {
  Fill("a", 300);
  const int64_t stored = kv_bytes();
  ASSERT_TRUE(harness_.Fork("a", "b").ok());
  const absl::StatusOr<SessionChange> change = harness_.Compress("b", 0, kSmaller);
  ASSERT_TRUE(change.ok()) << change.status();
  EXPECT_EQ(change->freed_bytes, 0);
  EXPECT_EQ(kv_bytes(), stored + 3 * 4 * smaller_block_bytes());
  EXPECT_EQ(TokensOf("a", 0), Range(0, 300));
  EXPECT_EQ(TokensOf("b", 0), Range(0, 300));
  EXPECT_EQ(harness_.Get("a")->codec, kCodec);
}

TEST_F(ChangeOperationsTest, ACodecMayOnlyShrink) {
  Fill("a", 300);
  for (const CodecSpec& codec : {CodecSpec{64, {33, 2}, {16, 2}}, CodecSpec{64, {16, 8}, {16, 2}},
                                 CodecSpec{64, {16, 2}, {33, 2}}, CodecSpec{64, {16, 2}, {16, 16}},
                                 CodecSpec{128, {16, 2}, {16, 2}}}) {
    const absl::Status status = harness_.Compress("a", 0, codec).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(ReasonOf(status), "CODEC_NOT_SMALLER");
  }
  EXPECT_EQ(harness_.Get("a")->revision, 1);
  // The same codec is not larger, and recodes nothing.
  const int64_t stored = kv_bytes();
  ASSERT_TRUE(harness_.Compress("a", std::nullopt, kCodec).ok());
  EXPECT_EQ(kv_bytes(), stored);
}

TEST_F(ChangeOperationsTest, AFailedBackendChangesNothing) {
  Fill("a", 191);
  const int64_t stored = kv_bytes();
  // First the recoding fails, then the compression after it.
  for (int skip : {0, 1}) {
    backend_.FailCall(skip, absl::UnavailableError("the device fell off"));
    const absl::Status status = harness_.Compress("a", 0, kSmaller).status();
    EXPECT_EQ(ReasonOf(status), "DEVICE_FAULT");
    EXPECT_EQ(kv_bytes(), stored);
    EXPECT_EQ(harness_.Get("a")->revision, 1);
    EXPECT_EQ(harness_.Get("a")->codec, kCodec);
    EXPECT_EQ(TokensOf("a", 0), Range(0, 191));
  }
  EXPECT_TRUE(harness_.Compress("a", 0, kSmaller).ok());
}

TEST_F(ChangeOperationsTest, AFullArenaChangesNothing) {
  PuppetBackend small(2 * kSlabBytes);
  EngineHarness harness(&small);
  ASSERT_TRUE(harness.Create(Params("a")).ok());
  const AppendEntry entry = Entry("a", {0, 1, 2}, 0, 300);
  const std::vector<uint16_t> keys = Tagged(entry, 0);
  AppendBatchBuilder builder(harness.engine());
  ASSERT_TRUE(harness.Append(builder.Add(entry, keys, keys).Build()).ok());
  // Pages take one slab, blocks the other: there is none for blocks of another size.
  const int64_t stored = harness.engine().memory_use().kv_bytes;
  const absl::Status status = harness.Compress("a", std::nullopt, kSmaller).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(status), "ARENA_FULL");
  EXPECT_EQ(harness.engine().memory_use().kv_bytes, stored);
  EXPECT_EQ(harness.Get("a")->revision, 1);
  EXPECT_EQ(harness.Get("a")->codec, kCodec);
}

}  // namespace
}  // namespace kvattend::testing
