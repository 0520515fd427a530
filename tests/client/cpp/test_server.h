// A gRPC server in this process whose answers a test writes: what the client sends is real, and so
// is what travels.
#ifndef KVATTEND_TESTS_CLIENT_CPP_TEST_SERVER_H_
#define KVATTEND_TESTS_CLIENT_CPP_TEST_SERVER_H_

#include <grpcpp/server.h>
#include <grpcpp/server_context.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "client/cpp/client.h"
#include "kvattend/v1/attention_service.grpc.pb.h"
#include "kvattend/v1/codec_service.grpc.pb.h"
#include "kvattend/v1/server_service.grpc.pb.h"
#include "kvattend/v1/session_service.grpc.pb.h"

namespace kvattend::client {

// Answers one method; tests set those they expect. A method without one is UNIMPLEMENTED.
template <typename Request, typename Response>
using Handler = std::function<grpc::Status(const grpc::ServerContext&, const Request&, Response*)>;

class TestServer {
 public:
  TestServer();
  ~TestServer();

  // A client whose retries wait on `environment`, which may be null.
  std::unique_ptr<Client> Connect(ClientOptions options = {}) const;
  const std::string& target() const { return target_; }

  Handler<v1::CreateSessionRequest, v1::CreateSessionResponse> create_session;
  Handler<v1::GetSessionRequest, v1::GetSessionResponse> get_session;
  Handler<v1::ListSessionsRequest, v1::ListSessionsResponse> list_sessions;
  Handler<v1::DeleteSessionRequest, v1::DeleteSessionResponse> delete_session;
  Handler<v1::CompressSessionRequest, v1::CompressSessionResponse> compress_session;
  Handler<v1::ForkSessionRequest, v1::ForkSessionResponse> fork_session;
  Handler<v1::TruncateSessionRequest, v1::TruncateSessionResponse> truncate_session;
  Handler<v1::AppendRequest, v1::AppendResponse> append;
  Handler<v1::AttendRequest, v1::AttendResponse> attend;
  Handler<v1::ComputeScoresRequest, v1::ComputeScoresResponse> compute_scores;
  Handler<v1::CompressRequest, v1::CompressResponse> compress;
  Handler<v1::DecompressRequest, v1::DecompressResponse> decompress;
  // Answers with `limits` unless a test sets it.
  Handler<v1::GetServerInfoRequest, v1::GetServerInfoResponse> get_server_info;
  v1::Limits limits;

 private:
  struct Services;
  std::unique_ptr<Services> services_;
  std::unique_ptr<grpc::Server> server_;
  std::string target_;
};

// Time that passes only by sleeping; chance that is always `random`.
class FakeRetryEnvironment final : public RetryEnvironment {
 public:
  absl::Time Now() override { return now; }
  void Sleep(absl::Duration duration) override {
    sleeps.push_back(duration);
    now += duration;
  }
  double Random() override { return random; }

  absl::Time now = absl::FromUnixSeconds(1'000'000);
  double random = 0;
  std::vector<absl::Duration> sleeps;
};

// What a handler of the server would return: details with a reason, and when to retry, if ever.
grpc::Status MakeError(grpc::StatusCode code, const std::string& reason,
                       const std::map<std::string, std::string>& metadata = {},
                       absl::Duration retry_after = absl::ZeroDuration());

// The value of a metadata key of a call; empty where it was not sent.
std::string Metadata(const grpc::ServerContext& context, const std::string& key);

// A session of `layers` layers, 2 query heads, 1 KV head and head_dim 64, with no tokens.
v1::Session MakeSessionInfo(const std::string& name, int layers = 1);

}  // namespace kvattend::client

#endif  // KVATTEND_TESTS_CLIENT_CPP_TEST_SERVER_H_
