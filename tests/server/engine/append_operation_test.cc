#include "server/engine/append_operation.h"

#include "tests/server/engine/puppet_engine_test.h"

namespace kvattend::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsSupersetOf;
using ::testing::Pair;

class AppendOperationTest : public PuppetEngineTest {
 protected:
  AppendOperationTest() { Create("a"); }

  std::vector<int64_t> LengthsOf(const std::string& session) {
    return harness_.Get(session)->layer_lengths;
  }
};

TEST_F(AppendOperationTest, AppendsToTheNamedLayers) {
  const AppendResult result = AppendOne(Entry("a", {2, 0}, 0, 5));
  ASSERT_TRUE(result.status.ok()) << result.status;
  EXPECT_FALSE(result.replayed);
  EXPECT_EQ(result.position, 5);
  EXPECT_EQ(result.revision, 1);
  EXPECT_THAT(LengthsOf("a"), ElementsAre(5, 0, 5));
  EXPECT_EQ(TokensOf("a", 2), Range(0, 5));
  EXPECT_EQ(harness_.metrics().Get().layer_tokens, 10);
  EXPECT_EQ(harness_.engine().memory_use().dense_bytes, 10 * 2 * 64 * 4);
}

TEST_F(AppendOperationTest, KeepsTheTensorsOfLayersApart) {
  const AppendEntry entry = Entry("a", {0, 1}, 0, 100);
  std::vector<uint16_t> keys(2 * 100 * kStride);
  for (int i = 0; i < 200; ++i) keys[i * kStride] = static_cast<uint16_t>(i);
  AppendBatchBuilder builder(harness_.engine());
  ASSERT_TRUE(harness_.Append(builder.Add(entry, keys, keys).Build()).ok());
  EXPECT_EQ(TokensOf("a", 0), Range(0, 100));
  EXPECT_EQ(TokensOf("a", 1), Range(100, 200));
}

TEST_F(AppendOperationTest, CompressesWhatLeavesTheWindow) {
  Fill("a", 127);
  EXPECT_EQ(kv_bytes(), 3 * 8 * page_bytes());
  ASSERT_TRUE(AppendOne(Entry("a", {0, 1, 2}, 127, 1)).status.ok());
  EXPECT_EQ(kv_bytes(), 3 * (block_bytes() + 4 * page_bytes()));
  EXPECT_EQ(TokensOf("a", 2), Range(0, 128));
  const RecordedMetrics metrics = harness_.metrics().Get();
  EXPECT_THAT(metrics.compressed,
              ElementsAre(Pair("sparse50-int4", Pair(3 * 64 * 2 * 64 * 4, 3 * block_bytes()))));
  EXPECT_THAT(metrics.kernel_codecs,
              ElementsAre("sparse50-int4", "sparse50-int4", "sparse50-int4"));
}

TEST_F(AppendOperationTest, ChunksAndSingleTokensEndAlike) {
  for (const char* id : {"b", "c"}) Create(id);
  Fill("a", 333);
  for (int i = 0; i < 333; ++i) {
    ASSERT_TRUE(AppendOne(Entry("b", {0, 1, 2}, i, 1)).status.ok());
  }
  for (int i = 0; i < 333; i += 37) {
    ASSERT_TRUE(AppendOne(Entry("c", {0, 1, 2}, i, 37)).status.ok());
  }
  for (const char* id : {"a", "b", "c"}) {
    EXPECT_EQ(TokensOf(id, 0), Range(0, 333));
    EXPECT_EQ(harness_.Get(id)->stored_bytes, harness_.Get("a")->stored_bytes);
  }
}

TEST_F(AppendOperationTest, ARepeatIsAReplay) {
  Fill("a", 70);
  const int64_t stored = kv_bytes();
  for (const auto& [position, num_tokens] : {std::pair(0, 70), std::pair(0, 1), std::pair(69, 1)}) {
    const AppendResult result = AppendOne(Entry("a", {0, 1, 2}, position, num_tokens), 5000);
    EXPECT_TRUE(result.status.ok()) << result.status;
    EXPECT_TRUE(result.replayed);
    EXPECT_EQ(result.position, 70);
    EXPECT_EQ(result.revision, 1);
  }
  EXPECT_EQ(harness_.metrics().Get().replays, 3);
  EXPECT_EQ(harness_.metrics().Get().layer_tokens, 3 * 70);
  EXPECT_EQ(kv_bytes(), stored);
  EXPECT_EQ(TokensOf("a", 0), Range(0, 70));
  EXPECT_EQ(backend_.append_calls().size(), 1u);
}

TEST_F(AppendOperationTest, AReplayMayFindLayersOfDifferentLengths) {
  ASSERT_TRUE(AppendOne(Entry("a", {0, 1}, 0, 10)).status.ok());
  ASSERT_TRUE(AppendOne(Entry("a", {1}, 10, 5)).status.ok());
  const AppendResult result = AppendOne(Entry("a", {0, 1}, 0, 10));
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_TRUE(result.replayed);
  EXPECT_EQ(result.position, 10);
  // A retry of the second append alone, and of its beginning.
  EXPECT_TRUE(AppendOne(Entry("a", {1}, 10, 5)).replayed);
  EXPECT_TRUE(AppendOne(Entry("a", {1}, 10, 3)).replayed);
}

TEST_F(AppendOperationTest, AnythingElseIsAPositionConflict) {
  ASSERT_TRUE(AppendOne(Entry("a", {0, 1}, 0, 10)).status.ok());
  ASSERT_TRUE(AppendOne(Entry("a", {1}, 10, 5)).status.ok());
  const std::vector<AppendEntry> conflicts = {
      Entry("a", {0}, 11, 1),     // a gap
      Entry("a", {0}, 9, 2),      // an overlap
      Entry("a", {0, 1}, 10, 5),  // there in layer 1, new in layer 0
      Entry("a", {0, 1}, 10, 1),  // the same, a part
      Entry("a", {1, 2}, 0, 15),  // there in layer 1, layer 2 is empty
      Entry("a", {0}, INT64_MAX, 1),
  };
  for (const AppendEntry& entry : conflicts) {
    AppendEntry small = entry;
    // The tags do not matter; positions of INT64_MAX have none.
    const std::vector<uint16_t> keys = Tagged(small, 0);
    AppendBatchBuilder builder(harness_.engine());
    const AppendResult result = harness_.Append(builder.Add(small, keys, keys).Build())->front();
    EXPECT_EQ(result.status.code(), absl::StatusCode::kAborted);
    const ErrorDetails details = GetErrorDetails(result.status);
    EXPECT_EQ(details.reason, "POSITION_CONFLICT");
    EXPECT_EQ(details.field, "items[0].expected_position");
    EXPECT_EQ(result.position, 0);
  }
  const ErrorDetails details = GetErrorDetails(AppendOne(Entry("a", {0, 1}, 10, 5)).status);
  EXPECT_THAT(details.metadata, ElementsAre(Pair("layer_0_position", "10"),
                                            Pair("layer_1_position", "15"), Pair("revision", "1")));
  EXPECT_THAT(LengthsOf("a"), ElementsAre(10, 15, 0));
}

TEST_F(AppendOperationTest, AnotherRevisionIsAConflict) {
  Fill("a", 10);
  ASSERT_TRUE(harness_.Truncate("a", 8).ok());
  // Even where the position fits: the tokens before it may be others.
  for (int position : {8, 0}) {
    const AppendResult result = AppendOne(Entry("a", {0}, position, 2));
    EXPECT_EQ(result.status.code(), absl::StatusCode::kAborted);
    const ErrorDetails details = GetErrorDetails(result.status);
    EXPECT_EQ(details.reason, "REVISION_CONFLICT");
    EXPECT_EQ(details.field, "items[0].revision");
    EXPECT_THAT(details.metadata,
                ElementsAre(Pair("layer_0_position", "8"), Pair("revision", "2")));
  }
  AppendEntry entry = Entry("a", {0}, 8, 2);
  entry.revision = 2;
  EXPECT_EQ(AppendOne(entry).position, 10);
}

TEST_F(AppendOperationTest, EntriesFailAlone) {
  Create("b");
  AppendBatchBuilder builder(harness_.engine());
  const auto add = [&](AppendEntry entry) {
    const std::vector<uint16_t> keys = Tagged(entry, 0);
    builder.Add(std::move(entry), keys, keys);
  };
  add(Entry("a", {0}, 0, 2));
  add(Entry("nobody", {0}, 0, 2));
  add(Entry("a", {1, 3}, 0, 2));
  add(Entry("a", {-1}, 0, 2));
  AppendEntry wrong_heads = Entry("a", {1}, 0, 2);
  wrong_heads.num_kv_heads = 3;
  add(wrong_heads);
  AppendEntry wrong_dim = Entry("a", {1}, 0, 2);
  wrong_dim.head_dim = 128;
  add(wrong_dim);
  AppendEntry bad_input = Entry("a", {1}, 0, 2);
  bad_input.input_status =
      Error(absl::StatusCode::kInvalidArgument, "NON_FINITE_INPUT", "a value is not finite");
  add(bad_input);
  add(Entry("a", {2}, 0, 3));
  add(Entry("b", {0}, 0, 4));
  const absl::StatusOr<std::vector<AppendResult>> results = harness_.Append(builder.Build());
  ASSERT_TRUE(results.ok()) << results.status();
  std::vector<std::string> reasons, fields;
  for (const AppendResult& result : *results) {
    reasons.push_back(ReasonOf(result.status));
    fields.push_back(GetErrorDetails(result.status).field.value_or(""));
  }
  EXPECT_THAT(reasons,
              ElementsAre("", "SESSION_NOT_FOUND", "LAYER_OUT_OF_RANGE", "LAYER_OUT_OF_RANGE",
                          "SHAPE_MISMATCH", "SHAPE_MISMATCH", "NON_FINITE_INPUT", "", ""));
  EXPECT_THAT(fields, ElementsAre("", "", "items[2].layers[1]", "items[3].layers[0]",
                                  "items[4].num_kv_heads", "items[5].head_dim", "", "", ""));
  EXPECT_THAT(LengthsOf("a"), ElementsAre(2, 0, 3));
  EXPECT_THAT(LengthsOf("b"), ElementsAre(4, 0, 0));
  // All in one call.
  EXPECT_EQ(backend_.append_calls().size(), 1u);
  EXPECT_EQ(backend_.append_calls().front().writes, 3u);
  EXPECT_THAT(harness_.metrics().Get().batch_sizes, ElementsAre(9));
}

TEST_F(AppendOperationTest, BadInputMattersOnlyIfItWouldBeAppended) {
  Fill("a", 10);
  AppendEntry entry = Entry("a", {0}, 0, 10);
  entry.input_status =
      Error(absl::StatusCode::kInvalidArgument, "NON_FINITE_INPUT", "a value is not finite");
  EXPECT_TRUE(AppendOne(entry).replayed);
  entry.expected_position = 5;
  EXPECT_EQ(ReasonOf(AppendOne(entry).status), "POSITION_CONFLICT");
  entry.expected_position = 10;
  EXPECT_EQ(ReasonOf(AppendOne(entry).status), "NON_FINITE_INPUT");
  EXPECT_THAT(LengthsOf("a"), ElementsAre(10, 10, 10));
}

TEST_F(AppendOperationTest, ABatchOfSeveralCodecsIsMixed) {
  CreateSessionParams params = Params("b");
  params.codec = {64, {64, 8}, {64, 8}};
  ASSERT_TRUE(harness_.Create(params).ok());
  const AppendEntry first = Entry("a", {0}, 0, 1), second = Entry("b", {0}, 0, 1);
  AppendBatchBuilder builder(harness_.engine());
  builder.Add(first, Tagged(first, 0), Tagged(first, 0));
  builder.Add(second, Tagged(second, 0), Tagged(second, 0));
  ASSERT_TRUE(harness_.Append(builder.Build()).ok());
  EXPECT_THAT(harness_.metrics().Get().kernel_codecs, ElementsAre("mixed"));
}

TEST_F(AppendOperationTest, SessionAndForkInOneBatchBothCopyTheirTail) {
  Fill("a", 70);
  ASSERT_TRUE(harness_.Fork("a", "b").ok());
  const AppendEntry first = Entry("a", {1}, 70, 3), second = Entry("b", {1}, 70, 3);
  AppendBatchBuilder builder(harness_.engine());
  builder.Add(first, Tagged(first, 70), Tagged(first, 70));
  builder.Add(second, Tagged(second, 570), Tagged(second, 570));
  ASSERT_TRUE(harness_.Append(builder.Build()).ok());
  EXPECT_EQ(TokensOf("a", 1), Range(0, 73));
  EXPECT_THAT(TokensOf("b", 1), IsSupersetOf({69, 570, 571, 572}));
  EXPECT_EQ(kv_bytes(), (3 * 5 + 1) * page_bytes());
}

TEST_F(AppendOperationTest, AFailedBackendChangesNothing) {
  Fill("a", 120);
  ASSERT_TRUE(harness_.Fork("a", "b").ok());
  const int64_t stored = kv_bytes();
  const int64_t dense = harness_.engine().memory_use().dense_bytes;
  // First the copy of the tail page fails, then what follows it.
  for (int skip : {0, 1}) {
    backend_.FailCall(skip, absl::UnavailableError("the device fell off"));
    const AppendResult result = AppendOne(Entry("b", {0, 1, 2}, 120, 30));
    EXPECT_EQ(result.status.code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(ReasonOf(result.status), "DEVICE_FAULT");
    EXPECT_TRUE(GetErrorDetails(result.status).retry_after.has_value());
    EXPECT_EQ(kv_bytes(), stored);
    EXPECT_EQ(harness_.engine().memory_use().dense_bytes, dense);
    EXPECT_THAT(LengthsOf("b"), ElementsAre(120, 120, 120));
    EXPECT_EQ(TokensOf("a", 0), Range(0, 120));
    EXPECT_EQ(TokensOf("b", 0), Range(0, 120));
  }
  EXPECT_EQ(harness_.metrics().Get().layer_tokens, 3 * 120);
  EXPECT_EQ(AppendOne(Entry("b", {0, 1, 2}, 120, 30)).position, 150);
  EXPECT_EQ(TokensOf("b", 0), Range(0, 150));
  EXPECT_EQ(TokensOf("a", 0), Range(0, 120));
}

TEST_F(AppendOperationTest, GarbageOfAFailedAppendIsNeverSeen) {
  // The tail page is not shared: the failed call writes behind the tokens that are there.
  Fill("a", 70);
  backend_.FailCall(0, absl::UnavailableError("the device fell off"));
  EXPECT_FALSE(AppendOne(Entry("a", {0, 1, 2}, 70, 5)).status.ok());
  EXPECT_EQ(TokensOf("a", 0), Range(0, 70));
  ASSERT_TRUE(AppendOne(Entry("a", {0, 1, 2}, 70, 60)).status.ok());
  EXPECT_EQ(TokensOf("a", 0), Range(0, 130));
}

// An arena of 48 units: blocks and pages of these sessions are of one size, a sixteenth of a slab.
class FullArenaTest : public ::testing::Test {
 public:
  static constexpr LayerShape kLayerShape = {32, {64, {64, 4}, {64, 4}}};
  static constexpr int64_t kUnitBytes = int64_t{kSlabBytes} / 16;

  FullArenaTest() {
    EXPECT_EQ(backend_.PageBytes(kLayerShape), static_cast<size_t>(kUnitBytes));
    EXPECT_EQ(backend_.BlockBytes(kLayerShape), static_cast<size_t>(kUnitBytes));
  }

  void Create(const std::string& id, int64_t recent_window) {
    const CreateSessionParams params = {.id = id,
                                        .shape = {2, 32, 32, 64},
                                        .codec = kLayerShape.codec,
                                        .recent_window = recent_window};
    EXPECT_TRUE(harness_.Create(params).ok());
  }
  FullArenaTest& Add(const std::string& session, std::vector<int> layers, int64_t position,
                     int num_tokens) {
    const AppendEntry entry = {.session = session,
                               .revision = 1,
                               .expected_position = position,
                               .layers = std::move(layers),
                               .num_tokens = num_tokens,
                               .num_kv_heads = 32,
                               .head_dim = 64};
    const std::vector<uint16_t> keys(entry.layers.size() * static_cast<size_t>(num_tokens) * 32 *
                                     64);
    builder_.Add(entry, keys, keys);
    return *this;
  }
  // The statuses of the entries that have been added.
  std::vector<absl::Status> Append() {
    std::vector<absl::Status> statuses;
    AppendBatchBuilder builder = std::exchange(builder_, AppendBatchBuilder(harness_.engine()));
    const absl::StatusOr<std::vector<AppendResult>> results = harness_.Append(builder.Build());
    EXPECT_TRUE(results.ok()) << results.status();
    for (const AppendResult& result : *results) statuses.push_back(result.status);
    return statuses;
  }
  int64_t used_units() { return harness_.engine().memory_use().kv_bytes / kUnitBytes; }

  PuppetBackend backend_{3 * kSlabBytes};
  EngineHarness harness_{&backend_};
  AppendBatchBuilder builder_{harness_.engine()};
};

TEST_F(FullArenaTest, TheLastUnitIsUsedAndTheNextOneRefused) {
  Create("a", 64);
  // 43 blocks and 4 pages, then one page more.
  const int64_t length = 44 * 64;
  EXPECT_TRUE(Add("a", {0}, 0, length).Append().front().ok());
  EXPECT_EQ(used_units(), 47);
  EXPECT_TRUE(Add("a", {0}, length, 16).Append().front().ok());
  EXPECT_EQ(used_units(), 48);

  const absl::Status refused = Add("a", {0}, length + 16, 1).Append().front();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  const ErrorDetails details = GetErrorDetails(refused);
  EXPECT_EQ(details.reason, "ARENA_FULL");
  EXPECT_THAT(details.metadata,
              ElementsAre(Pair("free_bytes", "0"), Pair("needed_bytes", "131072")));
  EXPECT_EQ(harness_.metrics().Get().rejected[RejectReason::kArenaFull], 1);
  EXPECT_THAT(harness_.Get("a")->layer_lengths, ElementsAre(length + 16, 0));
  EXPECT_EQ(used_units(), 48);
}

TEST_F(FullArenaTest, AnEntryThatDoesNotFitLeavesRoomForOthers) {
  Create("a", 1024);
  Create("b", 64);
  // 30 pages for one layer would fit, 60 for two do not.
  const std::vector<absl::Status> statuses =
      Add("a", {0, 1}, 0, 30 * 16).Add("b", {0}, 0, 16).Append();
  EXPECT_EQ(ReasonOf(statuses[0]), "ARENA_FULL");
  EXPECT_TRUE(statuses[1].ok()) << statuses[1];
  EXPECT_EQ(used_units(), 1);
  EXPECT_THAT(harness_.Get("a")->layer_lengths, ElementsAre(0, 0));
}

}  // namespace
}  // namespace kvattend::testing
