// A channel to one server, its stubs, and the one way in which every call is made. Internal to
// client/cpp.
//
// Thread-safe.
#ifndef KVATTEND_CLIENT_CPP_CONNECTION_H_
#define KVATTEND_CLIENT_CPP_CONNECTION_H_

#include <grpcpp/client_context.h>

#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/cpp/client_options.h"
#include "kvattend/v1/attention_service.grpc.pb.h"
#include "kvattend/v1/codec_service.grpc.pb.h"
#include "kvattend/v1/server_service.grpc.pb.h"
#include "kvattend/v1/session_service.grpc.pb.h"

namespace kvattend::client {

class Connection {
 public:
  Connection(const std::string& target, ClientOptions options);

  // Reads the server's limits; before any other use.
  absl::Status FetchLimits();
  const v1::Limits& limits() const { return limits_; }
  const ClientOptions& options() const { return options_; }

  // When a call that starts now must be over.
  absl::Time Deadline(const CallOptions& options) const;

  // Runs `attempt`, again where it returns UNAVAILABLE, each time with a fresh context that has the
  // deadline and, unless `shard` is empty, the placement key.
  absl::Status Call(absl::Time deadline, absl::string_view shard,
                    absl::FunctionRef<absl::Status(grpc::ClientContext*)> attempt) const;

  v1::SessionService::Stub& sessions() const { return *sessions_; }
  v1::AttentionService::Stub& attention() const { return *attention_; }
  v1::CodecService::Stub& codec() const { return *codec_; }
  v1::ServerService::Stub& server() const { return *server_; }

 private:
  ClientOptions options_;
  v1::Limits limits_;
  std::unique_ptr<v1::SessionService::Stub> sessions_;
  std::unique_ptr<v1::AttentionService::Stub> attention_;
  std::unique_ptr<v1::CodecService::Stub> codec_;
  std::unique_ptr<v1::ServerService::Stub> server_;
};

}  // namespace kvattend::client

#endif  // KVATTEND_CLIENT_CPP_CONNECTION_H_
