#include "client/cpp/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <mutex>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cpp/errors.h"
#include "tests/client/cpp/test_server.h"

namespace kvattend::client {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

ClientOptions WithEnvironment(std::shared_ptr<FakeRetryEnvironment> environment) {
  ClientOptions options;
  options.environment = std::move(environment);
  return options;
}

// Answers Attend with each query's first byte, as all values of its output.
grpc::Status EchoAttend(const v1::AttendRequest& request, v1::AttendResponse* response) {
  response->set_output_dtype(v1::DATA_TYPE_FLOAT32);
  size_t offset = 0;
  for (const v1::AttendItem& item : request.items()) {
    const int64_t rows = int64_t{item.num_tokens()} * item.num_query_heads();
    const float value = static_cast<float>(request.queries().at(offset));
    offset += rows * item.head_dim() * sizeof(uint16_t);
    response->add_results()->set_position(7);
    const std::vector<float> outputs(rows * item.head_dim(), value);
    response->mutable_outputs()->append(reinterpret_cast<const char*>(outputs.data()),
                                        outputs.size() * sizeof(float));
    response->mutable_lse()->append(reinterpret_cast<const char*>(outputs.data()),
                                    rows * sizeof(float));
  }
  return grpc::Status::OK;
}

TEST(ClientTest, ConnectReadsTheLimits) {
  TestServer server;
  server.limits.set_max_message_bytes(12345);
  const auto client = server.Connect();
  EXPECT_EQ(client->limits().max_message_bytes(), 12345);
}

TEST(ClientTest, ConnectRetriesUnavailableOnly) {
  TestServer server;
  int calls = 0;
  server.get_server_info = [&](const auto&, const auto&, v1::GetServerInfoResponse*) {
    return ++calls <= 2 ? MakeError(grpc::StatusCode::UNAVAILABLE, "DRAINING", {}, absl::Seconds(2))
                        : grpc::Status::OK;
  };
  const auto environment = std::make_shared<FakeRetryEnvironment>();
  EXPECT_NE(server.Connect(WithEnvironment(environment)), nullptr);
  EXPECT_EQ(calls, 3);
  EXPECT_THAT(environment->sleeps, ElementsAre(absl::Seconds(2), absl::Seconds(2)));

  calls = 0;
  server.get_server_info = [&](const auto&, const auto&, v1::GetServerInfoResponse*) {
    ++calls;
    return MakeError(grpc::StatusCode::RESOURCE_EXHAUSTED, "ARENA_FULL", {{"free_bytes", "0"}});
  };
  const auto refused = Client::Connect(server.target());
  EXPECT_TRUE(absl::IsResourceExhausted(refused.status()));
  EXPECT_EQ(GetErrorDetails(refused.status()).reason, "ARENA_FULL");
  EXPECT_EQ(GetErrorDetails(refused.status()).metadata.at("free_bytes"), "0");
  EXPECT_EQ(calls, 1);
}

TEST(ClientTest, ConnectWithoutServerIsUnavailable) {
  std::string target;
  {
    TestServer gone;
    target = gone.target();
  }
  const auto environment = std::make_shared<FakeRetryEnvironment>();
  EXPECT_TRUE(absl::IsUnavailable(Client::Connect(target, WithEnvironment(environment)).status()));
  EXPECT_THAT(environment->sleeps, SizeIs(5));
}

TEST(ClientTest, EveryCallHasADeadline) {
  TestServer server;
  std::chrono::system_clock::time_point deadline;
  server.get_server_info = [&](const grpc::ServerContext& context, const auto&, auto*) {
    deadline = context.deadline();
    return grpc::Status::OK;
  };
  ClientOptions options;
  options.timeout = absl::Hours(2);
  const absl::Time start = absl::Now();
  const auto client = server.Connect(options);
  EXPECT_GT(absl::FromChrono(deadline), start + absl::Hours(1));
  EXPECT_LT(absl::FromChrono(deadline), start + absl::Hours(3));
  EXPECT_TRUE(client->GetServerInfo({.timeout = absl::Hours(10)}).ok());
  EXPECT_GT(absl::FromChrono(deadline), start + absl::Hours(9));
}

TEST(ClientTest, CreateSessionChoosesAnIdSoThatARetryIsHarmless) {
  TestServer server;
  std::vector<std::string> ids;
  // The first attempt makes the session, but its answer is lost.
  server.create_session = [&](const auto&, const v1::CreateSessionRequest& request,
                              v1::CreateSessionResponse*) {
    ids.push_back(request.session_id());
    return ids.size() == 1 ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "connection reset")
                           : MakeError(grpc::StatusCode::ALREADY_EXISTS, "SESSION_EXISTS");
  };
  server.get_session = [&](const auto&, const v1::GetSessionRequest& request,
                           v1::GetSessionResponse* response) {
    *response->mutable_session() = MakeSessionInfo(request.name());
    return grpc::Status::OK;
  };
  const auto environment = std::make_shared<FakeRetryEnvironment>();
  const auto client = server.Connect(WithEnvironment(environment));
  const auto session = client->CreateSession({});
  ASSERT_TRUE(session.ok()) << session.status();
  ASSERT_THAT(ids, SizeIs(2));
  EXPECT_THAT(ids[0], SizeIs(32));
  EXPECT_EQ(ids[0], ids[1]);
  EXPECT_EQ(session->name(), absl::StrCat("sessions/", ids[0]));

  // An id that the caller chose may be anybody's.
  ids.clear();
  EXPECT_TRUE(absl::IsAlreadyExists(client->CreateSession({.id = "mine"}).status()));
  EXPECT_THAT(ids, ElementsAre("mine", "mine"));
}

TEST(ClientTest, ShardIsSentOnlyWhereItIsAskedFor) {
  TestServer server;
  std::vector<std::string> shards;
  server.create_session = [&](const grpc::ServerContext& context,
                              const v1::CreateSessionRequest& request,
                              v1::CreateSessionResponse* response) {
    shards.push_back(Metadata(context, "x-kvattend-shard"));
    *response->mutable_session() = MakeSessionInfo(absl::StrCat("sessions/", request.session_id()));
    response->mutable_session()->set_shard(shards.back().empty() ? request.session_id()
                                                                 : shards.back());
    return grpc::Status::OK;
  };
  server.delete_session = [&](const grpc::ServerContext& context, const auto&, auto*) {
    shards.push_back(Metadata(context, "x-kvattend-shard"));
    return grpc::Status::OK;
  };
  const auto plain = server.Connect();
  EXPECT_TRUE(plain->CreateSession({.id = "a"})->Delete().ok());
  EXPECT_TRUE(plain->CreateSession({.id = "b", .shard = "s"})->Delete().ok());
  EXPECT_THAT(shards, ElementsAre("", "", "s", ""));

  shards.clear();
  ClientOptions options;
  options.send_shard = true;
  const auto routed = server.Connect(options);
  EXPECT_TRUE(routed->CreateSession({.id = "a"})->Delete().ok());
  EXPECT_TRUE(routed->CreateSession({.id = "b", .shard = "s"})->Delete().ok());
  EXPECT_THAT(shards, ElementsAre("a", "a", "s", "s"));
}

TEST(ClientTest, ListSessionsReadsEveryPage) {
  TestServer server;
  server.list_sessions = [](const auto&, const v1::ListSessionsRequest& request,
                            v1::ListSessionsResponse* response) {
    const int page = request.page_token().empty() ? 0 : std::stoi(request.page_token());
    response->add_sessions()->set_name(absl::StrCat("sessions/", page));
    if (page < 2) response->set_next_page_token(absl::StrCat(page + 1));
    return grpc::Status::OK;
  };
  const auto sessions = server.Connect()->ListSessions();
  ASSERT_TRUE(sessions.ok());
  std::vector<std::string> names;
  for (const v1::Session& session : *sessions) names.push_back(session.name());
  EXPECT_THAT(names, ElementsAre("sessions/0", "sessions/1", "sessions/2"));
}

class BatchedAppendTest : public ::testing::Test {
 protected:
  BatchedAppendTest() {
    server_.get_session = [](const auto&, const v1::GetSessionRequest& request,
                             v1::GetSessionResponse* response) {
      *response->mutable_session() = MakeSessionInfo(request.name());
      return grpc::Status::OK;
    };
    // Refuses session "bad".
    server_.append = [this](const auto&, const v1::AppendRequest& request,
                            v1::AppendResponse* response) {
      sizes_.push_back(request.items_size());
      for (const v1::AppendItem& item : request.items()) {
        keys_[item.session()] += std::string(1, request.keys()[offset(request, item)]);
        response->add_results()->mutable_status()->set_code(
            item.session() == "sessions/bad" ? grpc::StatusCode::NOT_FOUND : grpc::StatusCode::OK);
      }
      return grpc::Status::OK;
    };
  }

  // Where an item's keys begin in its request.
  static size_t offset(const v1::AppendRequest& request, const v1::AppendItem& item) {
    size_t bytes = 0;
    for (const v1::AppendItem& other : request.items()) {
      if (other.session() == item.session()) break;
      bytes += other.num_tokens() * kRowBytes;
    }
    return bytes;
  }

  static AppendInput Input(int64_t num_tokens, const std::string& data) {
    const auto bytes = AsBytes(absl::string_view(data)).subspan(0, num_tokens * kRowBytes);
    return {.layers = {0}, .num_tokens = num_tokens, .keys = bytes, .values = bytes};
  }

  // A token of MakeSessionInfo's shape: 64 float16 channels of one KV head.
  static constexpr int64_t kRowBytes = 128;
  TestServer server_;
  std::vector<int> sizes_;
  // The first byte of what each session was sent, call by call.
  std::map<std::string, std::string> keys_;
};

TEST_F(BatchedAppendTest, OneCallForManySessions) {
  const auto client = server_.Connect();
  Session a = *client->OpenSession("a");
  Session bad = *client->OpenSession("bad");
  Session c = *client->OpenSession("c");
  const std::string ones(3 * kRowBytes, '1'), twos(3 * kRowBytes, '2'), threes(3 * kRowBytes, '3');
  const std::vector<AppendItem> items = {
      {&a, Input(1, ones)}, {&bad, Input(3, twos)}, {&c, Input(2, threes)}};
  const std::vector<absl::Status> results = client->Append(items);
  ASSERT_THAT(results, SizeIs(3));
  EXPECT_TRUE(results[0].ok());
  EXPECT_TRUE(absl::IsNotFound(results[1]));
  EXPECT_TRUE(results[2].ok());
  EXPECT_THAT(sizes_, ElementsAre(3));
  EXPECT_EQ(keys_["sessions/a"], "1");
  EXPECT_EQ(keys_["sessions/bad"], "2");
  EXPECT_EQ(keys_["sessions/c"], "3");
  EXPECT_EQ(a.position(0), 1);
  EXPECT_EQ(bad.position(0), 0);
  EXPECT_EQ(c.position(0), 2);
}

TEST_F(BatchedAppendTest, LargeItemsAreChunkedAndBadOnesStayHere) {
  // Room for two tokens of keys and values beside an item's own fields.
  server_.limits.set_max_message_bytes(16 * 1024 + 4 * kRowBytes + 600);
  const auto client = server_.Connect();
  Session a = *client->OpenSession("a");
  Session b = *client->OpenSession("b");
  Session c = *client->OpenSession("c");
  const std::string data(6 * kRowBytes, 'x');
  AppendInput wrong = Input(1, data);
  wrong.num_tokens = 2;
  const std::vector<AppendItem> items = {{&a, Input(6, data)}, {&b, wrong}, {&c, Input(1, data)}};
  const std::vector<absl::Status> results = client->Append(items);
  EXPECT_TRUE(results[0].ok()) << results[0];
  EXPECT_TRUE(absl::IsInvalidArgument(results[1]));
  EXPECT_TRUE(results[2].ok());
  EXPECT_EQ(a.position(0), 6);
  EXPECT_EQ(keys_["sessions/b"], "");
  EXPECT_EQ(c.position(0), 1);
  for (int size : sizes_) EXPECT_EQ(size, 1);
}

class BatchedAttendTest : public ::testing::Test {
 protected:
  BatchedAttendTest() {
    server_.get_session = [](const auto&, const v1::GetSessionRequest& request,
                             v1::GetSessionResponse* response) {
      *response->mutable_session() = MakeSessionInfo(request.name());
      // Two shards, by the last digit of the name.
      response->mutable_session()->set_shard(request.name().back() % 2 == 0 ? "even" : "odd");
      return grpc::Status::OK;
    };
    server_.attend = [this](const grpc::ServerContext& context, const v1::AttendRequest& request,
                            v1::AttendResponse* response) {
      const std::lock_guard lock(mutex_);
      calls_.push_back({Metadata(context, "x-kvattend-shard"), request.items_size()});
      return EchoAttend(request, response);
    };
  }

  // Attends over five sessions, query i being bytes of value i + 1, and checks each output.
  void AttendFive(const Client& client) {
    std::vector<Session> sessions;
    std::vector<std::string> queries;
    for (int i = 0; i < 5; ++i) {
      sessions.push_back(*client.OpenSession(absl::StrCat("s", i), i % 2 == 0 ? "even" : "odd"));
      queries.push_back(std::string(2 * 64 * sizeof(uint16_t), static_cast<char>(i + 1)));
    }
    std::vector<AttendItem> items;
    for (int i = 0; i < 5; ++i) {
      items.push_back({&sessions[i], {.queries = AsBytes(absl::string_view(queries[i]))}});
    }
    const auto results = client.Attend(items);
    ASSERT_THAT(results, SizeIs(5));
    for (int i = 0; i < 5; ++i) {
      ASSERT_TRUE(results[i].ok()) << results[i].status();
      EXPECT_EQ(results[i]->position, 7);
      EXPECT_THAT(results[i]->outputs.shape(), ElementsAre(1, 2, 64));
      const std::vector<float> values = ToFloats(
          results[i]->outputs.dtype(), AsBytes(absl::string_view(results[i]->outputs.data())));
      EXPECT_EQ(values, std::vector<float>(128, static_cast<float>(i + 1)));
      EXPECT_EQ(results[i]->lse, std::vector<float>(2, static_cast<float>(i + 1)));
    }
  }

  struct Call {
    std::string shard;
    int num_items = 0;
    friend bool operator==(const Call&, const Call&) = default;
  };
  TestServer server_;
  std::mutex mutex_;
  std::vector<Call> calls_;
};

TEST_F(BatchedAttendTest, OneCallWithoutShards) {
  AttendFive(*server_.Connect());
  EXPECT_THAT(calls_, ElementsAre(Call{"", 5}));
}

TEST_F(BatchedAttendTest, SplitByItemLimit) {
  server_.limits.set_max_items_per_call(2);
  AttendFive(*server_.Connect());
  EXPECT_THAT(calls_, ElementsAre(Call{"", 2}, Call{"", 2}, Call{"", 1}));
}

TEST_F(BatchedAttendTest, GroupedByShard) {
  ClientOptions options;
  options.send_shard = true;
  AttendFive(*server_.Connect(options));
  EXPECT_THAT(calls_, ElementsAre(Call{"even", 3}, Call{"odd", 2}));
}

TEST_F(BatchedAttendTest, ItemErrorsAreTheItems) {
  server_.attend = [](const auto&, const v1::AttendRequest& request, v1::AttendResponse* response) {
    v1::AttendRequest others = request;
    others.mutable_items()->DeleteSubrange(1, 1);
    const size_t item_bytes = request.queries().size() / 3;
    others.set_queries(request.queries().substr(0, item_bytes) +
                       request.queries().substr(2 * item_bytes));
    EchoAttend(others, response);
    // The second item fails, and has no part of the outputs.
    *response->add_results() = response->results(1);
    response->mutable_results(1)->Clear();
    response->mutable_results(1)->mutable_status()->set_code(grpc::StatusCode::NOT_FOUND);
    return grpc::Status::OK;
  };
  const auto client = server_.Connect();
  const Session session = *client->OpenSession("s0");
  const std::string first(256, 1), second(256, 2), third(256, 3);
  const std::vector<AttendItem> items = {
      {&session, {.queries = AsBytes(absl::string_view(first))}},
      {&session, {.queries = AsBytes(absl::string_view(second))}},
      {&session, {.queries = AsBytes(absl::string_view(third))}}};
  const auto results = client->Attend(items);
  ASSERT_THAT(results, SizeIs(3));
  EXPECT_EQ(results[0]->lse[0], 1.0f);
  EXPECT_TRUE(absl::IsNotFound(results[1].status()));
  EXPECT_EQ(results[2]->lse[0], 3.0f);
}

TEST_F(BatchedAttendTest, CallErrorsAreEveryItems) {
  server_.attend = [](const auto&, const auto&, auto*) {
    return MakeError(grpc::StatusCode::FAILED_PRECONDITION, "WRONG_SHARD");
  };
  const auto client = server_.Connect();
  const Session session = *client->OpenSession("s0");
  const std::vector<AttendItem> items(2, AttendItem{&session, {}});
  for (const auto& result : client->Attend(items)) {
    EXPECT_EQ(GetErrorDetails(result.status()).reason, "WRONG_SHARD");
  }
}

TEST_F(BatchedAttendTest, ShortAnswersAreInternalErrors) {
  server_.attend = [](const auto&, const v1::AttendRequest& request, v1::AttendResponse* response) {
    EchoAttend(request, response);
    response->mutable_outputs()->pop_back();
    return grpc::Status::OK;
  };
  const auto client = server_.Connect();
  const Session session = *client->OpenSession("s0");
  const std::string query(256, 1);
  EXPECT_TRUE(
      absl::IsInternal(session.Attend({.queries = AsBytes(absl::string_view(query))}).status()));
}

}  // namespace
}  // namespace kvattend::client
