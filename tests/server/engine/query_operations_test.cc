// Attend and ComputeScores.
#include <limits>

#include "tests/server/engine/puppet_engine_test.h"

namespace kvattend::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

class QueryOperationsTest : public PuppetEngineTest {
 protected:
  QueryOperationsTest() {
    Create("a");
    Fill("a", 150);
  }

  absl::Status StatusOf(const QueryEntry& entry, CallContext context = {}) {
    QueryBatch batch;
    batch.entries.push_back(entry);
    absl::StatusOr<AttendAnswer> answer = harness_.Attend(std::move(batch), context);
    EXPECT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(answer->results.front().output != nullptr, answer->results.front().status.ok());

    // ComputeScores refuses the same entries.
    QueryBatch scores_batch;
    scores_batch.entries.push_back(entry);
    if (context.shard.empty()) {
      absl::StatusOr<ScoresAnswer> scores =
          harness_.Scores(std::move(scores_batch), {.max_answer_bytes = 1 << 20});
      EXPECT_TRUE(scores.ok()) << scores.status();
      EXPECT_EQ(scores->results.front().status, answer->results.front().status);
      EXPECT_EQ(scores->results.front().scores != nullptr, answer->results.front().status.ok());
    }
    return answer->results.front().status;
  }
};

TEST_F(QueryOperationsTest, AnswersItemsInOrder) {
  Create("b");
  Fill("b", 10);
  QueryBatch batch;
  batch.entries = {QueryOf("a", 0, 3), QueryOf("b", 2), QueryOf("nobody", 0), QueryOf("a", 2, 2)};
  const absl::StatusOr<AttendAnswer> answer = harness_.Attend(std::move(batch));
  ASSERT_TRUE(answer.ok()) << answer.status();
  const std::vector<AttendResult>& results = answer->results;
  ASSERT_EQ(results.size(), 4u);
  EXPECT_EQ(ReasonOf(results[2].status), "SESSION_NOT_FOUND");
  EXPECT_EQ(results[0].position, 150);
  EXPECT_EQ(results[1].position, 10);
  EXPECT_EQ(results[2].position, 0);
  // The puppet writes the number of the task and the length.
  EXPECT_EQ(results[0].output[3 * 4 * 64 - 1], 0.0f);
  EXPECT_EQ(results[1].output[0], 1.0f);
  EXPECT_EQ(results[3].output[2 * 4 * 64 - 1], 2.0f);
  EXPECT_EQ(results[1].lse[3], 10.0f);
  EXPECT_EQ(results[3].lse[7], 150.0f);
  // One after the other, outputs first.
  EXPECT_EQ(results[1].output, results[0].output + 3 * 4 * 64);
  EXPECT_EQ(results[3].output, results[1].output + 4 * 64);
  EXPECT_EQ(results[0].lse, results[3].output + 2 * 4 * 64);
  EXPECT_EQ(results[1].lse, results[0].lse + 3 * 4);
  ASSERT_EQ(backend_.attend_calls().size(), 1u);
  EXPECT_EQ(backend_.attend_calls()[0][1].tokens, Range(0, 10));
  EXPECT_THAT(harness_.metrics().Get().batch_sizes, ElementsAre(1, 1, 4));
}

TEST_F(QueryOperationsTest, PassesTheQueryOn) {
  QueryEntry entry = QueryOf("a", 1, 2);
  entry.start_position = 100;
  ASSERT_TRUE(StatusOf(entry).ok());
  const std::vector<std::vector<PuppetBackend::Attended>> calls = backend_.attend_calls();
  const Query attended = calls[0][0].query;
  EXPECT_EQ(attended.num_tokens, 2);
  EXPECT_EQ(attended.num_query_heads, 4);
  EXPECT_EQ(attended.data, queries_.data());
  EXPECT_EQ(attended.start_position, 100);
  EXPECT_EQ(attended.scale, 0.125f);
  // Raw scores are not scaled.
  EXPECT_EQ(calls[1][0].query.scale, 1.0f);
  entry.scale = 0.0f;
  ASSERT_TRUE(StatusOf(entry).ok());
  EXPECT_EQ(backend_.attend_calls()[2][0].query.scale, 0.0f);
  EXPECT_EQ(backend_.attend_calls()[3][0].query.scale, 0.0f);
}

TEST_F(QueryOperationsTest, ChecksEachItem) {
  struct Case {
    std::string reason;
    absl::StatusCode code;
    std::string field;
    QueryEntry entry;
  };
  std::vector<Case> cases;
  const auto add = [&](const char* reason, absl::StatusCode code,
                       const char* field) -> QueryEntry& {
    cases.push_back({reason, code, field, QueryOf("a", 0)});
    return cases.back().entry;
  };
  cases.reserve(20);
  add("SESSION_NOT_FOUND", absl::StatusCode::kNotFound, "").session = "b";
  add("LAYER_OUT_OF_RANGE", absl::StatusCode::kInvalidArgument, "items[0].layer").layer = 3;
  add("LAYER_OUT_OF_RANGE", absl::StatusCode::kInvalidArgument, "items[0].layer").layer = -1;
  add("SHAPE_MISMATCH", absl::StatusCode::kInvalidArgument, "items[0].num_query_heads")
      .num_query_heads = 2;
  add("SHAPE_MISMATCH", absl::StatusCode::kInvalidArgument, "items[0].head_dim").head_dim = 128;
  add("POSITION_NOT_REACHED", absl::StatusCode::kFailedPrecondition, "items[0].min_position")
      .min_position = 151;
  add("TOO_FEW_TOKENS", absl::StatusCode::kFailedPrecondition, "items[0].num_tokens").num_tokens =
      151;
  add("START_POSITION_OUT_OF_RANGE", absl::StatusCode::kInvalidArgument, "items[0].start_position")
      .start_position = 150;
  add("START_POSITION_OUT_OF_RANGE", absl::StatusCode::kInvalidArgument, "items[0].start_position")
      .start_position = std::numeric_limits<int64_t>::max();
  add("START_POSITION_OUT_OF_RANGE", absl::StatusCode::kInvalidArgument, "items[0].start_position")
      .start_position = -1;
  add("NON_FINITE_INPUT", absl::StatusCode::kInvalidArgument, "").input_status =
      Error(absl::StatusCode::kInvalidArgument, "NON_FINITE_INPUT", "a value is not finite");
  for (const Case& expected : cases) {
    const absl::Status status = StatusOf(expected.entry);
    EXPECT_EQ(ReasonOf(status), expected.reason);
    EXPECT_EQ(status.code(), expected.code) << status;
    EXPECT_EQ(GetErrorDetails(status).field.value_or(""), expected.field);
  }
  EXPECT_TRUE(backend_.attend_calls().empty());
  EXPECT_EQ(ReasonOf(StatusOf(QueryOf("a", 0), {.shard = "x"})), "WRONG_SHARD");

  QueryEntry edge = QueryOf("a", 0, 150);
  edge.min_position = 150;
  EXPECT_TRUE(StatusOf(edge).ok());
  edge = QueryOf("a", 0, 1);
  edge.start_position = 149;
  EXPECT_TRUE(StatusOf(edge).ok());
}

TEST_F(QueryOperationsTest, AnEmptyLayerHasNoAttention) {
  Create("b");
  ASSERT_TRUE(AppendOne(Entry("b", {0}, 0, 1)).status.ok());
  EXPECT_TRUE(StatusOf(QueryOf("b", 0)).ok());
  QueryEntry entry = QueryOf("b", 1);
  entry.min_position = 5;
  const absl::Status status = StatusOf(entry);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReasonOf(status), "EMPTY_LAYER");
}

TEST_F(QueryOperationsTest, ScoresComeForAllTokensOrTheBest) {
  QueryBatch batch;
  batch.entries = {QueryOf("a", 0, 2), QueryOf("a", 1)};
  batch.entries[1].start_position = 147;
  absl::StatusOr<ScoresAnswer> all =
      harness_.Scores(std::move(batch), {.softmax = true, .max_answer_bytes = 1 << 20});
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(all->results[0].num_scores, 150);
  EXPECT_EQ(all->results[0].position, 150);
  EXPECT_EQ(all->results[0].positions, nullptr);
  EXPECT_EQ(all->results[0].scores[2 * 4 * 150 - 1], 149.0f);
  EXPECT_EQ(all->results[1].num_scores, 3);
  EXPECT_EQ(all->results[1].scores, all->results[0].scores + 2 * 4 * 150);
  EXPECT_EQ(all->results[1].scores[0], 147.0f);
  EXPECT_EQ(backend_.attend_calls()[0][0].query.scale, 0.125f);

  QueryBatch top;
  top.entries = {QueryOf("a", 0), QueryOf("a", 1)};
  top.entries[1].start_position = 147;
  absl::StatusOr<ScoresAnswer> best =
      harness_.Scores(std::move(top), {.top_k = 5, .max_answer_bytes = 1 << 20});
  ASSERT_TRUE(best.ok()) << best.status();
  EXPECT_EQ(best->results[0].num_scores, 5);
  EXPECT_EQ(best->results[1].num_scores, 3);
  EXPECT_EQ(best->results[1].positions, best->results[0].positions + 4 * 5);
  EXPECT_EQ(best->results[1].positions[2], 149);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(best->results[0].positions) % alignof(int64_t), 0u);
}

TEST_F(QueryOperationsTest, AnAnswerThatIsTooLargeIsRefused) {
  const auto scores = [&](int top_k, int64_t max_bytes) {
    QueryBatch batch;
    batch.entries = {QueryOf("a", 0), QueryOf("a", 1)};
    return harness_.Scores(std::move(batch), {.top_k = top_k, .max_answer_bytes = max_bytes});
  };
  const int64_t bytes = 2 * 4 * 150 * 4;
  EXPECT_TRUE(scores(0, bytes).ok());
  const absl::Status status = scores(0, bytes - 1).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(status), "RESPONSE_TOO_LARGE");
  EXPECT_THAT(GetErrorDetails(status).metadata,
              ElementsAre(Pair("max_bytes", "4799"), Pair("needed_bytes", "4800")));
  EXPECT_TRUE(scores(10, 2 * 4 * 10 * 12).ok());
  EXPECT_FALSE(scores(10, 2 * 4 * 10 * 12 - 1).ok());
}

TEST_F(QueryOperationsTest, FailuresOfTheBackendFailTheCall) {
  const auto attend = [&] {
    QueryBatch batch;
    batch.entries = {QueryOf("a", 0)};
    return harness_.Attend(std::move(batch)).status();
  };
  backend_.FailCall(0, absl::UnavailableError("the device fell off"));
  EXPECT_EQ(ReasonOf(attend()), "DEVICE_FAULT");
  backend_.FailCall(0, absl::UnimplementedError("no such codec; there are others"));
  EXPECT_EQ(ReasonOf(attend()), "UNSUPPORTED_BY_DEVICE");
  backend_.FailStaging();
  const absl::Status status = attend();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(status), "OUT_OF_MEMORY");
  EXPECT_TRUE(attend().ok());
}

}  // namespace
}  // namespace kvattend::testing
