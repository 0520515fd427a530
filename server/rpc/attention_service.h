// kvattend.v1.AttentionService over the engine. Thread-safe.
#ifndef KVATTEND_SERVER_RPC_ATTENTION_SERVICE_H_
#define KVATTEND_SERVER_RPC_ATTENTION_SERVICE_H_

#include "kvattend/v1/attention_service.grpc.pb.h"
#include "server/rpc/call.h"

namespace kvattend {

namespace internal {

using RawAttentionService = v1::AttentionService::WithRawCallbackMethod_Append<
    v1::AttentionService::WithRawCallbackMethod_Attend<
        v1::AttentionService::WithRawCallbackMethod_ComputeScores<v1::AttentionService::Service>>>;

}  // namespace internal

class AttentionService final : public internal::RawAttentionService {
 public:
  explicit AttentionService(const RpcEnvironment* environment) : environment_(*environment) {}

  grpc::ServerUnaryReactor* Append(grpc::CallbackServerContext* context,
                                   const grpc::ByteBuffer* request,
                                   grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Attend(grpc::CallbackServerContext* context,
                                   const grpc::ByteBuffer* request,
                                   grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* ComputeScores(grpc::CallbackServerContext* context,
                                          const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* response) override;

 private:
  const RpcEnvironment& environment_;
};

}  // namespace kvattend

#endif  // KVATTEND_SERVER_RPC_ATTENTION_SERVICE_H_
