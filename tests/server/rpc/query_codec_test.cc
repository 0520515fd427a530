#include "server/rpc/query_codec.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/half.h"
#include "tests/server/rpc/expect_error.h"
#include "tests/server/rpc/heap_staging.h"

namespace kvattend {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::string Bytes(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

std::vector<float> Ramp(int count) {
  std::vector<float> values(count);
  for (int i = 0; i < count; ++i) values[i] = 0.25f * static_cast<float>(i);
  return values;
}

// Two items: [2, 1, 4] of layer 5 of "a", [1, 2, 4] of layer 0 of "b"; 16 values. The same messages
// serve Attend and ComputeScores.
template <typename Request>
Request GoodQueries() {
  Request request;
  request.set_dtype(v1::DATA_TYPE_FLOAT32);
  v1::AttendItem* a = request.add_items();
  a->set_session("sessions/a");
  a->set_layer(5);
  a->set_num_tokens(2);
  a->set_num_query_heads(1);
  a->set_head_dim(4);
  a->set_scale(0.5f);
  a->set_start_position(3);
  a->set_min_position(100);
  v1::AttendItem* b = request.add_items();
  b->set_session("sessions/b");
  b->set_num_tokens(1);
  b->set_num_query_heads(2);
  b->set_head_dim(4);
  request.set_queries(Bytes(Ramp(16)));
  return request;
}

absl::StatusOr<AttendParams> Parse(const v1::AttendRequest& request,
                                   const Limits& limits = Limits()) {
  return ParseAttend(request, TensorBytes(request.queries()), limits, HeapStaging);
}

absl::StatusOr<ScoresParams> Parse(const v1::ComputeScoresRequest& request) {
  return ParseComputeScores(request, TensorBytes(request.queries()), Limits(), HeapStaging);
}

TEST(ParseAttendTest, CopiesQueriesOfEveryItem) {
  const auto params = Parse(GoodQueries<v1::AttendRequest>());
  ASSERT_TRUE(params.ok()) << params.status();
  EXPECT_EQ(params->output_dtype, v1::DATA_TYPE_FLOAT32);
  ASSERT_EQ(params->batch.entries.size(), 2u);
  const QueryEntry& a = params->batch.entries[0];
  EXPECT_EQ(a.session, "a");
  EXPECT_EQ(a.layer, 5);
  EXPECT_EQ(a.num_tokens, 2);
  EXPECT_EQ(a.num_query_heads, 1);
  EXPECT_EQ(a.head_dim, 4);
  EXPECT_EQ(a.scale, 0.5f);
  EXPECT_EQ(a.start_position, 3);
  EXPECT_EQ(a.min_position, 100);
  const QueryEntry& b = params->batch.entries[1];
  EXPECT_FALSE(b.scale.has_value());
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(a.queries[i], 0.25f * static_cast<float>(i));
    EXPECT_EQ(b.queries[i], 0.25f * static_cast<float>(8 + i));
  }
  EXPECT_EQ(params->shapes[0].rows(), 2);
  EXPECT_EQ(params->shapes[1].rows(), 2);
}

struct BadQuery {
  const char* name;
  std::function<void(v1::AttendRequest&)> break_it;
  const char* reason;
  const char* field;
};

TEST(ParseAttendTest, RefusesMalformedCalls) {
  constexpr int kMaxInt = std::numeric_limits<int>::max();
  const std::vector<BadQuery> cases = {
      {"no items", [](auto& r) { r.clear_items(); }, "NO_ITEMS", "items"},
      {"10,000 items",
       [](auto& r) {
         const v1::AttendItem item = r.items(0);
         for (int i = 0; i < 9998; ++i) *r.add_items() = item;
       },
       "TOO_MANY_ITEMS", "items"},
      {"no dtype", [](auto& r) { r.clear_dtype(); }, "UNSUPPORTED_DTYPE", "dtype"},
      {"unknown output", [](auto& r) { r.set_output_dtype(static_cast<v1::DataType>(9)); },
       "UNSUPPORTED_DTYPE", "output_dtype"},
      {"bad name", [](auto& r) { r.mutable_items(0)->set_session("sessions/"); },
       "INVALID_SESSION_NAME", "items[0].session"},
      {"no tokens", [](auto& r) { r.mutable_items(0)->set_num_tokens(0); }, "VALUE_OUT_OF_RANGE",
       "items[0].num_tokens"},
      {"too many tokens", [](auto& r) { r.mutable_items(0)->set_num_tokens(1025); },
       "VALUE_OUT_OF_RANGE", "items[0].num_tokens"},
      {"no heads", [](auto& r) { r.mutable_items(1)->set_num_query_heads(0); },
       "VALUE_OUT_OF_RANGE", "items[1].num_query_heads"},
      {"negative head_dim", [](auto& r) { r.mutable_items(1)->set_head_dim(-4); },
       "VALUE_OUT_OF_RANGE", "items[1].head_dim"},
      {"scale NaN", [](auto& r) { r.mutable_items(1)->set_scale(kNan); }, "VALUE_OUT_OF_RANGE",
       "items[1].scale"},
      {"scale infinite", [](auto& r) { r.mutable_items(1)->set_scale(-kInfinity); },
       "VALUE_OUT_OF_RANGE", "items[1].scale"},
      {"negative min_position", [](auto& r) { r.mutable_items(1)->set_min_position(-1); },
       "VALUE_OUT_OF_RANGE", "items[1].min_position"},
      {"short", [](auto& r) { r.mutable_queries()->pop_back(); }, "BYTE_COUNT_MISMATCH", "queries"},
      {"long", [](auto& r) { r.mutable_queries()->append("1234"); }, "BYTE_COUNT_MISMATCH",
       "queries"},
      {"a shape that overflows",
       [](auto& r) {
         r.mutable_items(0)->set_num_query_heads(kMaxInt);
         r.mutable_items(0)->set_head_dim(kMaxInt);
       },
       "BYTE_COUNT_MISMATCH", "queries"},
  };
  for (const BadQuery& bad : cases) {
    SCOPED_TRACE(bad.name);
    auto request = GoodQueries<v1::AttendRequest>();
    bad.break_it(request);
    ExpectInvalid(Parse(request).status(), bad.reason, bad.field);
  }
}

TEST(ParseAttendTest, ValuesThatAreNotFiniteFailTheirItemAlone) {
  for (const float bad : {kNan, kInfinity, -kInfinity}) {
    auto request = GoodQueries<v1::AttendRequest>();
    // Item b, token 0, head 1, channel 3.
    std::memcpy(request.mutable_queries()->data() + 15 * sizeof(float), &bad, sizeof(bad));
    const auto params = Parse(request);
    ASSERT_TRUE(params.ok()) << params.status();
    EXPECT_TRUE(params->batch.entries[0].input_status.ok());
    const absl::Status& status = params->batch.entries[1].input_status;
    ExpectInvalid(status, "NON_FINITE_INPUT", "queries");
    const std::map<std::string, std::string> expected = {
        {"role", "queries"}, {"layer", "0"}, {"token", "0"}, {"head", "1"}, {"channel", "3"}};
    EXPECT_EQ(MetadataOf(status), expected);
  }
}

TEST(ParseAttendTest, AnswersThatAreTooLargeAreRefusedBeforehand) {
  Limits limits;
  limits.max_message_bytes = 1024 + 2 * 32 + 16 * 4 + 4 * 4;
  auto request = GoodQueries<v1::AttendRequest>();
  EXPECT_TRUE(Parse(request, limits).ok());
  --limits.max_message_bytes;
  ExpectError(Parse(request, limits).status(), absl::StatusCode::kResourceExhausted,
              "RESPONSE_TOO_LARGE", "");
  request.set_output_dtype(v1::DATA_TYPE_FLOAT16);
  EXPECT_TRUE(Parse(request, limits).ok());
}

TEST(AttendToProtoTest, PutsGoodItemsOneAfterTheOther) {
  const std::vector<float> outputs = {1.0f, 2.0f, 3.0f, 4.0f, 70000.0f, 6.0f};
  const std::vector<float> lse = {0.5f, 1.5f, 2.5f};
  AttendAnswer answer;
  answer.results.resize(3);
  answer.results[0] = {.position = 10, .output = outputs.data(), .lse = lse.data()};
  answer.results[1].status = Error(absl::StatusCode::kNotFound, "SESSION_NOT_FOUND", "none");
  answer.results[2] = {.position = 20, .output = outputs.data() + 4, .lse = lse.data() + 2};
  const std::vector<QueryShape> shapes = {{2, 1, 2}, {8, 8, 64}, {1, 1, 2}};

  const v1::AttendResponse response = ToProto(answer, shapes, v1::DATA_TYPE_FLOAT32);
  ASSERT_EQ(response.results_size(), 3);
  EXPECT_EQ(response.results(0).position(), 10);
  EXPECT_EQ(response.results(1).status().code(), 5);
  EXPECT_EQ(response.results(2).position(), 20);
  EXPECT_EQ(response.output_dtype(), v1::DATA_TYPE_FLOAT32);
  EXPECT_EQ(response.outputs(), Bytes(outputs));
  EXPECT_EQ(response.lse(), Bytes(lse));

  const v1::AttendResponse halves = ToProto(answer, shapes, v1::DATA_TYPE_FLOAT16);
  EXPECT_EQ(halves.output_dtype(), v1::DATA_TYPE_FLOAT16);
  ASSERT_EQ(halves.outputs().size(), 12u);
  uint16_t saturated = 0;
  std::memcpy(&saturated, halves.outputs().data() + 8, sizeof(saturated));
  EXPECT_EQ(saturated, kMaxHalfBits);
  EXPECT_EQ(halves.lse(), Bytes(lse));
}

TEST(ParseComputeScoresTest, ModesAndTopK) {
  auto request = GoodQueries<v1::ComputeScoresRequest>();
  auto params = Parse(request);
  ASSERT_TRUE(params.ok()) << params.status();
  EXPECT_FALSE(params->options.softmax);
  EXPECT_EQ(params->options.top_k, 0);
  EXPECT_LE(params->options.max_answer_bytes, Limits().max_message_bytes);
  EXPECT_GT(params->options.max_answer_bytes, Limits().max_message_bytes - 4096);
  request.set_mode(v1::SCORE_MODE_SOFTMAX);
  request.set_top_k(65536);
  params = Parse(request);
  ASSERT_TRUE(params.ok()) << params.status();
  EXPECT_TRUE(params->options.softmax);
  EXPECT_EQ(params->options.top_k, 65536);

  request.set_top_k(65537);
  ExpectInvalid(Parse(request).status(), "VALUE_OUT_OF_RANGE", "top_k");
  request.set_top_k(-1);
  ExpectInvalid(Parse(request).status(), "VALUE_OUT_OF_RANGE", "top_k");
  request.set_top_k(1);
  request.set_mode(static_cast<v1::ScoreMode>(3));
  ExpectInvalid(Parse(request).status(), "VALUE_OUT_OF_RANGE", "mode");
  request.clear_mode();
  request.clear_items();
  ExpectInvalid(Parse(request).status(), "NO_ITEMS", "items");
}

TEST(ScoresToProtoTest, PutsGoodItemsOneAfterTheOther) {
  const std::vector<float> scores = {3.0f, 2.0f, 1.0f, 0.0f, -1.0f};
  const std::vector<int64_t> positions = {7, 5, 6, -1, 2};
  ScoresAnswer answer;
  answer.results.resize(3);
  answer.results[0] = {
      .position = 9, .num_scores = 2, .scores = scores.data(), .positions = positions.data()};
  answer.results[1].status = Error(absl::StatusCode::kNotFound, "SESSION_NOT_FOUND", "none");
  answer.results[2] = {.position = 8,
                       .num_scores = 1,
                       .scores = scores.data() + 4,
                       .positions = positions.data() + 4};
  const v1::ComputeScoresResponse response = ToProto(answer, {{2, 1, 4}, {1, 1, 4}, {1, 1, 4}});
  EXPECT_EQ(response.results(0).num_scores(), 2);
  EXPECT_EQ(response.results(1).status().code(), 5);
  EXPECT_EQ(response.results(2).position(), 8);
  EXPECT_EQ(response.scores(), Bytes(scores));
  ASSERT_EQ(response.positions().size(), positions.size() * sizeof(int64_t));
  EXPECT_EQ(std::memcmp(response.positions().data(), positions.data(), response.positions().size()),
            0);
}

}  // namespace
}  // namespace kvattend
