// A server on free loopback ports and clients of it, for tests over real sockets.
#ifndef KVATTEND_TESTS_SERVER_RPC_SERVER_FIXTURE_H_
#define KVATTEND_TESTS_SERVER_RPC_SERVER_FIXTURE_H_

#include <cmath>
#include <cstdint>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/status.h"
#include "gtest/gtest.h"
#include "kernels/base/half.h"
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

// The shape of the sessions that it creates.
inline constexpr int kLayers = 2;
inline constexpr int kQueryHeads = 4;
inline constexpr int kKvHeads = 2;
inline constexpr int kDim = 64;

// Values that are float16 already, different for every seed.
inline std::vector<float> Wave(int count, float seed) {
  std::vector<float> values(count);
  for (int i = 0; i < count; ++i) {
    values[i] = HalfToFloat(FloatToHalf(std::sin(seed + 0.37f * static_cast<float>(i))));
  }
  return values;
}

inline void AppendBytes(const std::vector<float>& values, std::string* bytes) {
  bytes->append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
}

class ServerTest : public ::testing::Test {
 protected:
  explicit ServerTest(ServerOptions options = {}) {
    options.listen = "127.0.0.1:0";
    options.metrics_listen = "127.0.0.1:0";
    options.device = DeviceChoice::kCpu;
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

  grpc::Status Create(const std::string& id, const std::string& preset,
                      v1::CreateSessionResponse* response) {
    grpc::ClientContext context;
    v1::CreateSessionRequest request;
    request.set_session_id(id);
    request.mutable_codec()->set_preset(preset);
    v1::ModelShape* shape = request.mutable_model_shape();
    shape->set_num_layers(kLayers);
    shape->set_num_query_heads(kQueryHeads);
    shape->set_num_kv_heads(kKvHeads);
    shape->set_head_dim(kDim);
    return sessions_->CreateSession(&context, request, response);
  }

  grpc::Status Get(const std::string& name, v1::GetSessionResponse* response) {
    grpc::ClientContext context;
    v1::GetSessionRequest request;
    request.set_name(name);
    return sessions_->GetSession(&context, request, response);
  }

  // The same tokens to both layers.
  v1::AppendRequest MakeAppend(const std::string& name, int64_t position, int num_tokens) {
    v1::AppendRequest request;
    request.set_dtype(v1::DATA_TYPE_FLOAT32);
    v1::AppendItem* item = request.add_items();
    item->set_session(name);
    item->set_revision(1);
    item->set_expected_position(position);
    for (int layer = 0; layer < kLayers; ++layer) item->add_layers(layer);
    item->set_num_tokens(num_tokens);
    item->set_num_kv_heads(kKvHeads);
    item->set_head_dim(kDim);
    for (int layer = 0; layer < kLayers; ++layer) {
      AppendBytes(Wave(num_tokens * kKvHeads * kDim, 1), request.mutable_keys());
      AppendBytes(Wave(num_tokens * kKvHeads * kDim, 2), request.mutable_values());
    }
    return request;
  }

  v1::AppendResponse Append(const v1::AppendRequest& request) {
    grpc::ClientContext context;
    v1::AppendResponse response;
    const grpc::Status status = attention_->Append(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  v1::AttendRequest MakeAttend(const std::string& name) {
    v1::AttendRequest request;
    request.set_dtype(v1::DATA_TYPE_FLOAT32);
    v1::AttendItem* item = request.add_items();
    item->set_session(name);
    item->set_layer(1);
    item->set_num_tokens(1);
    item->set_num_query_heads(kQueryHeads);
    item->set_head_dim(kDim);
    AppendBytes(Wave(kQueryHeads * kDim, 3), request.mutable_queries());
    return request;
  }

  v1::AttendResponse Attend(const v1::AttendRequest& request) {
    grpc::ClientContext context;
    v1::AttendResponse response;
    const grpc::Status status = attention_->Attend(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  // Calls any method with any bytes.
  grpc::Status CallRaw(const std::string& method, const std::string& bytes,
                       std::string* response_bytes) {
    grpc::GenericStub stub(channel_);
    grpc::ClientContext context;
    const grpc::Slice slice(bytes);
    const grpc::ByteBuffer request(&slice, 1);
    grpc::ByteBuffer response;
    std::promise<grpc::Status> done;
    stub.UnaryCall(&context, method, {}, &request, &response,
                   [&done](grpc::Status status) { done.set_value(std::move(status)); });
    const grpc::Status status = done.get_future().get();
    grpc::Slice single;
    if (status.ok() && response.DumpToSingleSlice(&single).ok()) {
      response_bytes->assign(reinterpret_cast<const char*>(single.begin()), single.size());
    }
    return status;
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
