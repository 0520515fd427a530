// The whole server over real sockets: that its parts fit together. What each part does in every
// corner has tests of its own.
#include "server/server.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/backend_choice.h"
#include "tests/server/rpc/server_fixture.h"

namespace kvattend {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;

// Attention of one query row over num_tokens of Wave's keys and values, in float64.
std::vector<double> ExactOutput(int num_tokens, int query_head) {
  const std::vector<float> keys = Wave(num_tokens * kKvHeads * kDim, 1);
  const std::vector<float> values = Wave(num_tokens * kKvHeads * kDim, 2);
  const std::vector<float> queries = Wave(kQueryHeads * kDim, 3);
  const int kv_head = query_head / (kQueryHeads / kKvHeads);
  std::vector<double> output(kDim);
  double sum = 0;
  for (int token = 0; token < num_tokens; ++token) {
    const size_t row = static_cast<size_t>(token * kKvHeads + kv_head) * kDim;
    double score = 0;
    for (int c = 0; c < kDim; ++c) score += double{queries[query_head * kDim + c]} * keys[row + c];
    const double weight = std::exp(score / std::sqrt(double{kDim}));
    sum += weight;
    for (int c = 0; c < kDim; ++c) output[c] += weight * values[row + c];
  }
  for (double& value : output) value /= sum;
  return output;
}

TEST_F(ServerTest, AttendsOverWhatWasAppended) {
  v1::CreateSessionResponse created;
  ASSERT_TRUE(Create("a", "fp16", &created).ok());
  EXPECT_EQ(created.session().name(), "sessions/a");
  EXPECT_EQ(created.session().revision(), 1);
  EXPECT_EQ(created.session().shard(), "a");
  EXPECT_GT(created.session().create_time().seconds(), 0);

  const v1::AppendResponse appended = Append(MakeAppend("sessions/a", 0, 200));
  ASSERT_EQ(appended.results_size(), 1);
  EXPECT_EQ(ReasonOf(appended.results(0).status()), "");
  EXPECT_EQ(appended.results(0).position(), 200);

  const v1::AttendResponse attended = Attend(MakeAttend("sessions/a"));
  EXPECT_EQ(attended.results(0).position(), 200);
  ASSERT_EQ(attended.outputs().size(), kQueryHeads * kDim * sizeof(float));
  ASSERT_EQ(attended.lse().size(), kQueryHeads * sizeof(float));
  for (int head = 0; head < kQueryHeads; ++head) {
    const std::vector<double> exact = ExactOutput(200, head);
    for (int c = 0; c < kDim; ++c) {
      float value = 0;
      std::memcpy(&value, attended.outputs().data() + (head * kDim + c) * sizeof(float),
                  sizeof(value));
      // Probabilities may be rounded to 8 bits of mantissa at worst.
      EXPECT_NEAR(value, exact[c], 1e-3) << "head " << head << " channel " << c;
    }
  }
}

TEST_F(ServerTest, ASessionsLife) {
  v1::CreateSessionResponse created;
  ASSERT_TRUE(Create("a", "int8", &created).ok());
  Append(MakeAppend("sessions/a", 0, 200));
  EXPECT_TRUE(Append(MakeAppend("sessions/a", 0, 200)).results(0).replayed());

  grpc::ClientContext fork_context;
  v1::ForkSessionRequest fork;
  fork.set_name("sessions/a");
  fork.set_session_id("b");
  v1::ForkSessionResponse forked;
  ASSERT_TRUE(sessions_->ForkSession(&fork_context, fork, &forked).ok());
  EXPECT_THAT(forked.session().layer_lengths(), ElementsAre(200, 200));

  // Tokens 0 to 127 are in two blocks: 200 >= 64 + 64 + 64.
  grpc::ClientContext inside_context;
  v1::TruncateSessionRequest truncate;
  truncate.set_name("sessions/b");
  truncate.set_length(100);
  v1::TruncateSessionResponse truncated;
  const grpc::Status inside = sessions_->TruncateSession(&inside_context, truncate, &truncated);
  EXPECT_EQ(inside.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(ReasonOf(inside), "TRUNCATE_INSIDE_BLOCK");
  EXPECT_EQ(FindDetail<google::rpc::ErrorInfo>(DetailsOf(inside))->metadata().at("nearest_below"),
            "64");
  truncate.set_length(64);
  grpc::ClientContext truncate_context;
  ASSERT_TRUE(sessions_->TruncateSession(&truncate_context, truncate, &truncated).ok());
  EXPECT_EQ(truncated.session().length(), 64);
  EXPECT_EQ(truncated.session().revision(), 2);

  grpc::ClientContext compress_context;
  v1::CompressSessionRequest compress;
  compress.set_name("sessions/a");
  compress.set_keep_exact(0);
  compress.mutable_codec()->set_preset("int4");
  v1::CompressSessionResponse compressed;
  const grpc::Status status = sessions_->CompressSession(&compress_context, compress, &compressed);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(compressed.session().codec().preset(), "int4");
  EXPECT_GT(compressed.freed_bytes(), 0);

  grpc::ClientContext list_context;
  v1::ListSessionsRequest list;
  list.set_page_size(1);
  v1::ListSessionsResponse page;
  ASSERT_TRUE(sessions_->ListSessions(&list_context, list, &page).ok());
  ASSERT_EQ(page.sessions_size(), 1);
  EXPECT_EQ(page.sessions(0).name(), "sessions/a");
  list.set_page_token(page.next_page_token());
  grpc::ClientContext next_context;
  ASSERT_TRUE(sessions_->ListSessions(&next_context, list, &page).ok());
  ASSERT_EQ(page.sessions_size(), 1);
  EXPECT_EQ(page.sessions(0).name(), "sessions/b");
  EXPECT_EQ(page.next_page_token(), "");

  for (const char* name : {"sessions/a", "sessions/b"}) {
    grpc::ClientContext context;
    v1::DeleteSessionRequest request;
    request.set_name(name);
    v1::DeleteSessionResponse response;
    ASSERT_TRUE(sessions_->DeleteSession(&context, request, &response).ok());
    EXPECT_GT(response.freed_bytes(), 0);
  }
  grpc::ClientContext info_context;
  v1::GetServerInfoResponse info;
  ASSERT_TRUE(info_->GetServerInfo(&info_context, {}, &info).ok());
  EXPECT_EQ(info.kv_used_bytes(), 0);
  EXPECT_EQ(info.num_sessions(), 0);
}

TEST_F(ServerTest, SaysWhatItIs) {
  grpc::ClientContext context;
  v1::GetServerInfoResponse info;
  ASSERT_TRUE(info_->GetServerInfo(&context, {}, &info).ok());
  EXPECT_EQ(info.version(), ServerVersion());
  EXPECT_EQ(info.device().kind(), "cpu");
  EXPECT_EQ(info.codecs(0).preset(), "balanced");
  EXPECT_EQ(info.codecs(0).keys().kept(), 38);
  EXPECT_THAT(info.head_dims(), ElementsAre(64, 128, 256));
  EXPECT_EQ(info.limits().max_message_bytes(), 64 << 20);
  EXPECT_EQ(info.limits().max_items_per_call(), 4096);
  EXPECT_EQ(info.limits().max_query_heads(), 16384);
  EXPECT_EQ(info.kv_capacity_bytes(), 64 << 20);
  EXPECT_THAT(info.missing_capabilities(), ElementsAreArray(MissingCapabilities()));
}

TEST_F(ServerTest, ScoresAndTopK) {
  v1::CreateSessionResponse created;
  ASSERT_TRUE(Create("a", "fp16", &created).ok());
  Append(MakeAppend("sessions/a", 0, 100));
  const v1::AttendRequest attend = MakeAttend("sessions/a");
  v1::ComputeScoresRequest request;
  request.set_dtype(attend.dtype());
  *request.mutable_items() = attend.items();
  request.set_queries(attend.queries());
  grpc::ClientContext all_context;
  v1::ComputeScoresResponse all;
  ASSERT_TRUE(attention_->ComputeScores(&all_context, request, &all).ok());
  EXPECT_EQ(all.results(0).num_scores(), 100);
  ASSERT_EQ(all.scores().size(), kQueryHeads * 100 * sizeof(float));
  EXPECT_EQ(all.positions().size(), 0u);

  request.set_top_k(1);
  grpc::ClientContext best_context;
  v1::ComputeScoresResponse best;
  ASSERT_TRUE(attention_->ComputeScores(&best_context, request, &best).ok());
  ASSERT_EQ(best.scores().size(), kQueryHeads * sizeof(float));
  std::vector<float> scores(kQueryHeads * 100);
  std::memcpy(scores.data(), all.scores().data(), all.scores().size());
  for (int head = 0; head < kQueryHeads; ++head) {
    const auto row = scores.begin() + head * 100;
    const auto expected = std::max_element(row, row + 100);
    float score = 0;
    int64_t position = 0;
    std::memcpy(&score, best.scores().data() + head * sizeof(score), sizeof(score));
    std::memcpy(&position, best.positions().data() + head * sizeof(position), sizeof(position));
    EXPECT_EQ(score, *expected);
    EXPECT_EQ(position, expected - row);
  }
}

TEST_F(ServerTest, ErrorsOfCallsCarryDetails) {
  v1::GetSessionResponse response;
  const grpc::Status unknown = Get("sessions/none", &response);
  EXPECT_EQ(unknown.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(ReasonOf(unknown), "SESSION_NOT_FOUND");
  EXPECT_EQ(FindDetail<google::rpc::ResourceInfo>(DetailsOf(unknown))->resource_name(),
            "sessions/none");

  const grpc::Status bad_name = Get(std::string(1 << 20, 'x'), &response);
  EXPECT_EQ(bad_name.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(ReasonOf(bad_name), "INVALID_SESSION_NAME");
  const auto bad_request = FindDetail<google::rpc::BadRequest>(DetailsOf(bad_name));
  ASSERT_TRUE(bad_request.has_value());
  EXPECT_EQ(bad_request->field_violations(0).field(), "name");

  v1::CreateSessionResponse created;
  ASSERT_TRUE(Create("a", "balanced", &created).ok());
  const grpc::Status twice = Create("a", "balanced", &created);
  EXPECT_EQ(twice.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(ReasonOf(twice), "SESSION_EXISTS");
}

TEST_F(ServerTest, ErrorsOfItemsCarryDetailsAndLeaveOthersAlone) {
  v1::CreateSessionResponse created;
  ASSERT_TRUE(Create("a", "balanced", &created).ok());
  v1::AppendRequest request = MakeAppend("sessions/a", 0, 3);
  request.MergeFrom(MakeAppend("sessions/none", 0, 3));
  // keys and values are not repeated: say them again.
  for (std::string* bytes : {request.mutable_keys(), request.mutable_values()}) *bytes += *bytes;
  const v1::AppendResponse response = Append(request);
  EXPECT_EQ(ReasonOf(response.results(0).status()), "");
  EXPECT_EQ(ReasonOf(response.results(1).status()), "SESSION_NOT_FOUND");

  const v1::AppendResponse conflict = Append(MakeAppend("sessions/a", 7, 3));
  EXPECT_EQ(conflict.results(0).status().code(), grpc::StatusCode::ABORTED);
  EXPECT_EQ(ReasonOf(conflict.results(0).status()), "POSITION_CONFLICT");
  const auto info = FindDetail<google::rpc::ErrorInfo>(conflict.results(0).status());
  EXPECT_EQ(info->metadata().at("layer_1_position"), "3");
  EXPECT_EQ(info->metadata().at("revision"), "1");

  v1::AttendRequest attend = MakeAttend("sessions/a");
  attend.mutable_items(0)->set_layer(kLayers);
  EXPECT_EQ(ReasonOf(Attend(attend).results(0).status()), "LAYER_OUT_OF_RANGE");
}

TEST_F(ServerTest, BytesThatAreNoRequestAreRefusedWithDetails) {
  std::string ignored;
  for (const std::string& bytes : {std::string("\xff\xff\xff\xff"), std::string("\x0a\xff"),
                                   std::string("\x0a\x02\xc3\x28")}) {
    const grpc::Status status = CallRaw("/kvattend.v1.SessionService/GetSession", bytes, &ignored);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(ReasonOf(status), "MALFORMED_REQUEST");
  }
}

TEST_F(ServerTest, MessagesAboveTheLimitAreRefused) {
  v1::AppendRequest request = MakeAppend("sessions/a", 0, 1);
  request.set_keys(std::string((64 << 20) + 1, '\0'));
  grpc::ClientContext context;
  v1::AppendResponse response;
  EXPECT_EQ(attention_->Append(&context, request, &response).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(ServerTest, ShardsAreKept) {
  grpc::ClientContext create_context;
  create_context.AddMetadata("x-kvattend-shard", "s1");
  v1::CreateSessionRequest create;
  create.set_session_id("a");
  v1::ModelShape* shape = create.mutable_model_shape();
  shape->set_num_layers(1);
  shape->set_num_query_heads(1);
  shape->set_num_kv_heads(1);
  shape->set_head_dim(64);
  v1::CreateSessionResponse created;
  ASSERT_TRUE(sessions_->CreateSession(&create_context, create, &created).ok());
  EXPECT_EQ(created.session().shard(), "s1");

  v1::GetSessionRequest get;
  get.set_name("sessions/a");
  v1::GetSessionResponse got;
  for (const auto& [shard, reason] : std::vector<std::pair<std::string, std::string>>{
           {"s1", ""}, {"s2", "WRONG_SHARD"}, {std::string(257, 's'), "INVALID_SHARD"}}) {
    grpc::ClientContext context;
    context.AddMetadata("x-kvattend-shard", shard);
    EXPECT_EQ(ReasonOf(sessions_->GetSession(&context, get, &got)), reason);
  }
}

TEST_F(ServerTest, RequestIdsComeBack) {
  v1::GetSessionRequest request;
  request.set_name("sessions/none");
  v1::GetSessionResponse response;
  grpc::ClientContext with_id;
  with_id.AddMetadata("x-request-id", "my-id-1");
  sessions_->GetSession(&with_id, request, &response);
  EXPECT_EQ(with_id.GetServerInitialMetadata().find("x-request-id")->second, "my-id-1");
  grpc::ClientContext without_id;
  sessions_->GetSession(&without_id, request, &response);
  EXPECT_EQ(without_id.GetServerInitialMetadata().find("x-request-id")->second.size(), 32u);
}

}  // namespace
}  // namespace kvattend
