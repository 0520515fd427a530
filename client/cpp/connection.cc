#include "client/cpp/connection.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <utility>

#include "absl/time/clock.h"
#include "client/cpp/status_conversion.h"

namespace kvattend::client {
namespace {

// The placement key's name; proto/kvattend/v1/session_service.proto.
constexpr char kShardKey[] = "x-kvattend-shard";

}  // namespace

Connection::Connection(const std::string& target, ClientOptions options)
    : options_(std::move(options)) {
  if (options_.environment == nullptr) {
    options_.environment = std::make_shared<SystemRetryEnvironment>();
  }
  if (options_.credentials == nullptr) {
    options_.credentials = grpc::InsecureChannelCredentials();
  }
  grpc::ChannelArguments arguments;
  // The server bounds its answers (limits().max_message_bytes), by a flag that is not known here.
  arguments.SetMaxReceiveMessageSize(-1);
  // Retries are this library's, so that what they do is one thing and testable.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  const auto channel = grpc::CreateCustomChannel(target, options_.credentials, arguments);
  sessions_ = v1::SessionService::NewStub(channel);
  attention_ = v1::AttentionService::NewStub(channel);
  codec_ = v1::CodecService::NewStub(channel);
  server_ = v1::ServerService::NewStub(channel);
}

absl::Status Connection::FetchLimits() {
  v1::GetServerInfoResponse response;
  const absl::Status status = Call(Deadline({}), "", [&](grpc::ClientContext* context) {
    return FromGrpcStatus(server_->GetServerInfo(context, {}, &response));
  });
  if (status.ok()) limits_ = response.limits();
  return status;
}

absl::Time Connection::Deadline(const CallOptions& options) const {
  return options_.environment->Now() + options.timeout.value_or(options_.timeout);
}

absl::Status Connection::Call(absl::Time deadline, absl::string_view shard,
                              absl::FunctionRef<absl::Status(grpc::ClientContext*)> attempt) const {
  RetryEnvironment& environment = *options_.environment;
  return CallWithRetry(options_.retry, environment, deadline, [&] {
    grpc::ClientContext context;
    // gRPC reads the system's clock, whatever `environment` says.
    context.set_deadline(absl::ToChronoTime(absl::Now() + (deadline - environment.Now())));
    if (!shard.empty()) context.AddMetadata(kShardKey, std::string(shard));
    return attempt(&context);
  });
}

}  // namespace kvattend::client
