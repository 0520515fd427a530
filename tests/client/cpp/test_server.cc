#include "tests/client/cpp/test_server.h"

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace kvattend::client {
namespace {

template <typename Request, typename Response>
grpc::Status Run(const Handler<Request, Response>& handler, const grpc::ServerContext& context,
                 const Request& request, Response* response) {
  if (!handler) return {grpc::StatusCode::UNIMPLEMENTED, "the test expects no such call"};
  return handler(context, request, response);
}

// A method of a service that runs the handler of the same meaning.
#define KVATTEND_TEST_METHOD(Method, handler)                                           \
  grpc::Status Method(grpc::ServerContext* context, const v1::Method##Request* request, \
                      v1::Method##Response* response) override {                        \
    return Run(owner->handler, *context, *request, response);                           \
  }                                                                                     \
  static_assert(true, "wants a semicolon")

struct SessionService final : v1::SessionService::Service {
  explicit SessionService(TestServer* server) : owner(server) {}
  KVATTEND_TEST_METHOD(CreateSession, create_session);
  KVATTEND_TEST_METHOD(GetSession, get_session);
  KVATTEND_TEST_METHOD(ListSessions, list_sessions);
  KVATTEND_TEST_METHOD(DeleteSession, delete_session);
  KVATTEND_TEST_METHOD(CompressSession, compress_session);
  KVATTEND_TEST_METHOD(ForkSession, fork_session);
  KVATTEND_TEST_METHOD(TruncateSession, truncate_session);
  TestServer* const owner;
};

struct AttentionService final : v1::AttentionService::Service {
  explicit AttentionService(TestServer* server) : owner(server) {}
  KVATTEND_TEST_METHOD(Append, append);
  KVATTEND_TEST_METHOD(Attend, attend);
  KVATTEND_TEST_METHOD(ComputeScores, compute_scores);
  TestServer* const owner;
};

struct CodecService final : v1::CodecService::Service {
  explicit CodecService(TestServer* server) : owner(server) {}
  KVATTEND_TEST_METHOD(Compress, compress);
  KVATTEND_TEST_METHOD(Decompress, decompress);
  TestServer* const owner;
};

struct ServerService final : v1::ServerService::Service {
  explicit ServerService(TestServer* server) : owner(server) {}
  KVATTEND_TEST_METHOD(GetServerInfo, get_server_info);
  TestServer* const owner;
};

#undef KVATTEND_TEST_METHOD

}  // namespace

struct TestServer::Services {
  explicit Services(TestServer* owner)
      : sessions(owner), attention(owner), codec(owner), server(owner) {}
  SessionService sessions;
  AttentionService attention;
  CodecService codec;
  ServerService server;
};

TestServer::TestServer() : services_(std::make_unique<Services>(this)) {
  limits.set_max_message_bytes(64 << 20);
  limits.set_max_items_per_call(4096);
  get_server_info = [this](const grpc::ServerContext&, const v1::GetServerInfoRequest&,
                           v1::GetServerInfoResponse* response) {
    *response->mutable_limits() = limits;
    return grpc::Status::OK;
  };
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.SetMaxReceiveMessageSize(-1);
  builder.RegisterService(&services_->sessions);
  builder.RegisterService(&services_->attention);
  builder.RegisterService(&services_->codec);
  builder.RegisterService(&services_->server);
  server_ = builder.BuildAndStart();
  target_ = absl::StrCat("127.0.0.1:", port);
}

TestServer::~TestServer() { server_->Shutdown(); }

std::unique_ptr<Client> TestServer::Connect(ClientOptions options) const {
  auto client = Client::Connect(target_, std::move(options));
  EXPECT_TRUE(client.ok()) << client.status();
  return client.ok() ? *std::move(client) : nullptr;
}

grpc::Status MakeError(grpc::StatusCode code, const std::string& reason,
                       const std::map<std::string, std::string>& metadata,
                       absl::Duration retry_after) {
  google::rpc::Status status;
  status.set_code(code);
  google::rpc::ErrorInfo info;
  info.set_reason(reason);
  info.set_domain("kvattend");
  info.mutable_metadata()->insert(metadata.begin(), metadata.end());
  status.add_details()->PackFrom(info);
  if (retry_after > absl::ZeroDuration()) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(absl::ToInt64Seconds(retry_after));
    retry.mutable_retry_delay()->set_nanos(static_cast<int>(
        absl::ToInt64Nanoseconds(retry_after - absl::Seconds(retry.retry_delay().seconds()))));
    status.add_details()->PackFrom(retry);
  }
  return {code, absl::StrCat("as the test wants: ", reason), status.SerializeAsString()};
}

std::string Metadata(const grpc::ServerContext& context, const std::string& key) {
  const auto found = context.client_metadata().find(key);
  if (found == context.client_metadata().end()) return "";
  return {found->second.data(), found->second.size()};
}

v1::Session MakeSessionInfo(const std::string& name, int layers) {
  v1::Session session;
  session.set_name(name);
  session.set_revision(1);
  session.mutable_model_shape()->set_num_layers(layers);
  session.mutable_model_shape()->set_num_query_heads(2);
  session.mutable_model_shape()->set_num_kv_heads(1);
  session.mutable_model_shape()->set_head_dim(64);
  for (int i = 0; i < layers; ++i) session.add_layer_lengths(0);
  return session;
}

}  // namespace kvattend::client
