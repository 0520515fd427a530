#include "client/cpp/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cpp/chunking.h"
#include "client/cpp/client.h"
#include "client/cpp/errors.h"
#include "tests/client/cpp/test_server.h"

namespace kvattend::client {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

// A layer's token of MakeSessionInfo's shape: 64 float16 channels of one KV head.
constexpr int64_t kRowBytes = 128;

// Bytes that tell where they come from: layer l, token t is all l * 100 + t, values 50 more.
std::string MakeTensors(int layers, int tokens, int offset) {
  std::string data;
  for (int l = 0; l < layers; ++l) {
    for (int t = 0; t < tokens; ++t) {
      data.append(kRowBytes, static_cast<char>(l * 100 + t + offset));
    }
  }
  return data;
}

class SessionTest : public ::testing::Test {
 protected:
  SessionTest() {
    server_.get_session = [](const auto&, const v1::GetSessionRequest& request,
                             v1::GetSessionResponse* response) {
      *response->mutable_session() = MakeSessionInfo(request.name(), 2);
      return grpc::Status::OK;
    };
    server_.append = [this](const auto&, const v1::AppendRequest& request,
                            v1::AppendResponse* response) {
      requests_.push_back(request);
      response->add_results()->set_position(request.items(0).expected_position() +
                                            request.items(0).num_tokens());
      return grpc::Status::OK;
    };
  }

  Session Open() {
    ClientOptions options;
    options.environment = environment_;
    client_ = server_.Connect(options);
    return *client_->OpenSession("s");
  }

  static AppendInput Input(std::vector<int> layers, int64_t num_tokens, const std::string& keys,
                           const std::string& values) {
    return {.layers = std::move(layers),
            .num_tokens = num_tokens,
            .keys = AsBytes(absl::string_view(keys)),
            .values = AsBytes(absl::string_view(values))};
  }

  TestServer server_;
  std::shared_ptr<FakeRetryEnvironment> environment_ = std::make_shared<FakeRetryEnvironment>();
  std::unique_ptr<Client> client_;
  std::vector<v1::AppendRequest> requests_;
};

TEST_F(SessionTest, AppendSendsPositionsAndTracksThem) {
  Session session = Open();
  const std::string keys = MakeTensors(1, 3, 0);
  const std::string values = MakeTensors(1, 3, 50);
  ASSERT_TRUE(session.Append(Input({0}, 3, keys, values)).ok());
  ASSERT_TRUE(session.Append(Input({0}, 3, keys, values)).ok());
  ASSERT_TRUE(session.Append(Input({1}, 3, keys, values)).ok());
  EXPECT_EQ(session.position(0), 6);
  EXPECT_EQ(session.position(1), 3);
  EXPECT_EQ(session.info().length(), 3);
  ASSERT_EQ(requests_.size(), 3u);
  EXPECT_EQ(requests_[1].items(0).expected_position(), 3);
  EXPECT_EQ(requests_[2].items(0).expected_position(), 0);
  const v1::AppendItem& item = requests_[0].items(0);
  EXPECT_EQ(item.session(), "sessions/s");
  EXPECT_EQ(item.revision(), 1);
  EXPECT_EQ(item.num_tokens(), 3);
  EXPECT_EQ(item.num_kv_heads(), 1);
  EXPECT_EQ(item.head_dim(), 64);
  EXPECT_EQ(requests_[0].dtype(), v1::DATA_TYPE_FLOAT16);
  EXPECT_EQ(requests_[0].keys(), keys);
  EXPECT_EQ(requests_[0].values(), values);
}

TEST_F(SessionTest, AppendOfSeveralLayersIsChunkedByTokens) {
  // Room for two tokens of both layers.
  server_.limits.set_max_message_bytes(kMessageHeadroomBytes + 2 * 2 * 2 * kRowBytes);
  Session session = Open();
  const std::string keys = MakeTensors(2, 5, 0);
  const std::string values = MakeTensors(2, 5, 50);
  ASSERT_TRUE(session.Append(Input({1, 0}, 5, keys, values)).ok());
  ASSERT_EQ(requests_.size(), 3u);
  for (size_t n = 0; n < requests_.size(); ++n) {
    const v1::AppendItem& item = requests_[n].items(0);
    EXPECT_THAT(item.layers(), ElementsAre(1, 0));
    EXPECT_EQ(item.expected_position(), static_cast<int64_t>(2 * n));
    EXPECT_EQ(item.num_tokens(), n < 2 ? 2 : 1);
    std::string expected_keys, expected_values;
    for (int layer : {0, 1}) {
      for (size_t token = 2 * n; token < std::min<size_t>(2 * n + 2, 5); ++token) {
        const size_t row = (layer * 5 + token) * kRowBytes;
        expected_keys.append(keys, row, kRowBytes);
        expected_values.append(values, row, kRowBytes);
      }
    }
    EXPECT_EQ(requests_[n].keys(), expected_keys);
    EXPECT_EQ(requests_[n].values(), expected_values);
  }
  EXPECT_EQ(session.position(0), 5);
  EXPECT_EQ(session.position(1), 5);
}

TEST_F(SessionTest, AppendThatFailedHalfwayCanBeRepeated) {
  server_.limits.set_max_message_bytes(kMessageHeadroomBytes + 2 * 2 * kRowBytes);
  Session session = Open();
  server_.append = [this](const auto&, const v1::AppendRequest& request,
                          v1::AppendResponse* response) {
    requests_.push_back(request);
    response->add_results();
    if (requests_.size() == 2) {
      response->mutable_results(0)->mutable_status()->set_code(
          grpc::StatusCode::RESOURCE_EXHAUSTED);
    }
    return grpc::Status::OK;
  };
  const std::string keys = MakeTensors(1, 6, 0);
  EXPECT_TRUE(absl::IsResourceExhausted(session.Append(Input({0}, 6, keys, keys))));
  EXPECT_EQ(requests_.size(), 2u);
  EXPECT_EQ(session.position(0), 0);

  ASSERT_TRUE(session.Append(Input({0}, 6, keys, keys)).ok());
  EXPECT_EQ(session.position(0), 6);
  // The chunks are the same again, so that the server knows the first one.
  ASSERT_EQ(requests_.size(), 5u);
  EXPECT_EQ(requests_[2].SerializeAsString(), requests_[0].SerializeAsString());
  EXPECT_EQ(requests_[3].SerializeAsString(), requests_[1].SerializeAsString());
}

TEST_F(SessionTest, AppendIsRetriedWithTheSamePositionAndReplayAdvances) {
  Session session = Open();
  server_.append = [this](const auto&, const v1::AppendRequest& request,
                          v1::AppendResponse* response) {
    requests_.push_back(request);
    if (requests_.size() <= 2) {
      return MakeError(grpc::StatusCode::UNAVAILABLE, "QUEUE_FULL", {}, absl::Milliseconds(700));
    }
    response->add_results()->set_replayed(true);
    // Somebody is ahead of this handle.
    response->mutable_results(0)->set_position(40);
    return grpc::Status::OK;
  };
  const std::string keys = MakeTensors(1, 3, 0);
  ASSERT_TRUE(session.Append(Input({0}, 3, keys, keys)).ok());
  ASSERT_EQ(requests_.size(), 3u);
  EXPECT_EQ(requests_[2].SerializeAsString(), requests_[0].SerializeAsString());
  EXPECT_THAT(environment_->sleeps, ElementsAre(absl::Milliseconds(700), absl::Milliseconds(700)));
  EXPECT_EQ(session.position(0), 3);
}

TEST_F(SessionTest, UnavailableItemIsRetriedToo) {
  Session session = Open();
  server_.append = [this](const auto&, const v1::AppendRequest& request,
                          v1::AppendResponse* response) {
    requests_.push_back(request);
    response->add_results()->mutable_status()->set_code(
        requests_.size() == 1 ? grpc::StatusCode::UNAVAILABLE : grpc::StatusCode::OK);
    return grpc::Status::OK;
  };
  const std::string keys = MakeTensors(1, 1, 0);
  EXPECT_TRUE(session.Append(Input({0}, 1, keys, keys)).ok());
  EXPECT_EQ(requests_.size(), 2u);
}

TEST_F(SessionTest, PositionConflictIsNotRetriedAndSaysTheTruth) {
  Session session = Open();
  server_.append = [this](const auto&, const v1::AppendRequest& request,
                          v1::AppendResponse* response) {
    requests_.push_back(request);
    google::rpc::Status status;
    const grpc::Status error =
        MakeError(grpc::StatusCode::ABORTED, "POSITION_CONFLICT", {{"layer_0_position", "9"}});
    status.ParseFromString(error.error_details());
    *response->add_results()->mutable_status() = status;
    return grpc::Status::OK;
  };
  const std::string keys = MakeTensors(1, 1, 0);
  const absl::Status status = session.Append(Input({0}, 1, keys, keys));
  EXPECT_TRUE(absl::IsAborted(status));
  EXPECT_EQ(GetErrorDetails(status).reason, "POSITION_CONFLICT");
  EXPECT_EQ(GetErrorDetails(status).metadata.at("layer_0_position"), "9");
  EXPECT_EQ(requests_.size(), 1u);
}

TEST_F(SessionTest, AppendRefusesWhatItCannotSlice) {
  Session session = Open();
  const std::string keys = MakeTensors(1, 3, 0);
  const std::string fewer = MakeTensors(1, 2, 0);
  for (const AppendInput& input :
       {Input({0}, 3, keys, fewer), Input({0}, 3, fewer, keys), Input({}, 3, "", ""),
        Input({0}, 0, "", ""), Input({0}, -1, keys, keys), Input({2}, 3, keys, keys),
        Input({-1}, 3, keys, keys)}) {
    EXPECT_TRUE(absl::IsInvalidArgument(session.Append(input)));
  }
  AppendInput untyped = Input({0}, 3, keys, keys);
  untyped.dtype = v1::DATA_TYPE_UNSPECIFIED;
  EXPECT_TRUE(absl::IsInvalidArgument(session.Append(untyped)));
  EXPECT_TRUE(requests_.empty());
}

TEST_F(SessionTest, TruncateAndCompressTakeTheServersSession) {
  Session session = Open();
  server_.truncate_session = [](const auto&, const v1::TruncateSessionRequest& request,
                                v1::TruncateSessionResponse* response) {
    *response->mutable_session() = MakeSessionInfo(request.name(), 2);
    response->mutable_session()->set_revision(2);
    response->mutable_session()->set_layer_lengths(0, request.length());
    response->set_freed_bytes(512);
    return grpc::Status::OK;
  };
  server_.compress_session = [](const auto&, const v1::CompressSessionRequest& request,
                                v1::CompressSessionResponse* response) {
    EXPECT_EQ(request.keep_exact(), 16);
    EXPECT_EQ(request.codec().preset(), "lean");
    *response->mutable_session() = MakeSessionInfo(request.name(), 2);
    response->mutable_session()->set_revision(3);
    response->set_freed_bytes(1024);
    return grpc::Status::OK;
  };
  EXPECT_EQ(session.Truncate(5).value(), 512);
  EXPECT_EQ(session.revision(), 2);
  EXPECT_EQ(session.position(0), 5);
  v1::Codec lean;
  lean.set_preset("lean");
  EXPECT_EQ(session.Compress(16, lean).value(), 1024);
  EXPECT_EQ(session.revision(), 3);
}

TEST_F(SessionTest, ForkIsASessionOfItsOwn) {
  Session session = Open();
  server_.fork_session = [](const auto&, const v1::ForkSessionRequest& request,
                            v1::ForkSessionResponse* response) {
    EXPECT_EQ(request.name(), "sessions/s");
    *response->mutable_session() = MakeSessionInfo(absl::StrCat("sessions/", request.session_id()));
    return grpc::Status::OK;
  };
  EXPECT_EQ(session.Fork("copy")->name(), "sessions/copy");
  // "sessions/" and a random id.
  EXPECT_THAT(session.Fork()->name(), SizeIs(9 + 32));
}

TEST_F(SessionTest, ComputeScoresReadsScoresAndPositions) {
  const Session session = Open();
  server_.compute_scores = [](const auto&, const v1::ComputeScoresRequest& request,
                              v1::ComputeScoresResponse* response) {
    EXPECT_EQ(request.mode(), v1::SCORE_MODE_SOFTMAX);
    EXPECT_EQ(request.top_k(), 1);
    EXPECT_EQ(request.items(0).scale(), 0.5f);
    response->add_results()->set_num_scores(1);
    response->mutable_results(0)->set_position(11);
    const float scores[] = {0.75f, 0.5f};
    const int64_t positions[] = {10, 3};
    response->set_scores(scores, sizeof(scores));
    response->set_positions(positions, sizeof(positions));
    return grpc::Status::OK;
  };
  const std::string query(256, 1);
  const auto output = session.ComputeScores(
      {.queries = AsBytes(absl::string_view(query)), .scale = 0.5f}, {.softmax = true, .top_k = 1});
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_EQ(output->position, 11);
  EXPECT_THAT(output->scores, ElementsAre(0.75f, 0.5f));
  EXPECT_THAT(output->positions, ElementsAre(10, 3));
}

TEST_F(SessionTest, OutlivesItsClient) {
  Session session = Open();
  client_.reset();
  EXPECT_TRUE(session.Refresh().ok());
}

}  // namespace
}  // namespace kvattend::client
