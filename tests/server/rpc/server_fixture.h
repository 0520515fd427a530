// A server on free loopback ports and clients of it, for tests over real sockets.
#ifndef KVATTEND_TESTS_SERVER_RPC_SERVER_FIXTURE_H_
#define KVATTEND_TESTS_SERVER_RPC_SERVER_FIXTURE_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/support/status.h"
#include "gtest/gtest.h"
#include "kvattend/v1/attention_service.grpc.pb.h"
#include "kvattend/v1/codec_service.grpc.pb.h"
#include "kvattend/v1/server_service.grpc.pb.h"
#include "kvattend/v1/session_service.grpc.pb.h"
#include "server/server.h"

namespace kvattend {

// The detail of a type, if the status has it.
template <typename Detail>
std::optional<Detail> FindDetail(const google::rpc::Status& status) {
  for (const auto& any : status.details()) {
    Detail detail;
    if (any.UnpackTo(&detail)) return detail;
  }
  return std::nullopt;
}

// Every error says why: its reason, "" for OK.
inline std::string ReasonOf(const google::rpc::Status& status) {
  if (status.code() == 0) return "";
  const auto info = FindDetail<google::rpc::ErrorInfo>(status);
  if (!info.has_value()) return "no ErrorInfo";
  EXPECT_EQ(info->domain(), "kvattend");
  return info->reason();
}

inline google::rpc::Status DetailsOf(const grpc::Status& status) {
  google::rpc::Status proto;
  EXPECT_TRUE(proto.ParseFromString(status.error_details()));
  return proto;
}

inline std::string ReasonOf(const grpc::Status& status) { return ReasonOf(DetailsOf(status)); }

class ServerFixture : public ::testing::Test {
 protected:
  explicit ServerFixture(ServerOptions options = {}) {
    options.listen = "127.0.0.1:0";
    options.metrics_listen = "127.0.0.1:0";
    options.kv_memory = {.bytes = int64_t{64} << 20};
    options.num_threads = 2;
    auto server = Server::Create(options, &logger_);
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    // A connection of its own, not one shared with other tests.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    channel_ = grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", server_->grpc_port()),
                                         grpc::InsecureChannelCredentials(), arguments);
    sessions_ = v1::SessionService::NewStub(channel_);
    attention_ = v1::AttentionService::NewStub(channel_);
    codec_ = v1::CodecService::NewStub(channel_);
    info_ = v1::ServerService::NewStub(channel_);
  }

  Logger logger_{LogFormat::kText, spdlog::level::off};
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::SessionService::Stub> sessions_;
  std::unique_ptr<v1::AttentionService::Stub> attention_;
  std::unique_ptr<v1::CodecService::Stub> codec_;
  std::unique_ptr<v1::ServerService::Stub> info_;
};

}  // namespace kvattend

#endif  // KVATTEND_TESTS_SERVER_RPC_SERVER_FIXTURE_H_
