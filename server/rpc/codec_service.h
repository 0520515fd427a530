// kvattend.v1.CodecService over the engine's backend. Thread-safe.
#ifndef KVATTEND_SERVER_RPC_CODEC_SERVICE_H_
#define KVATTEND_SERVER_RPC_CODEC_SERVICE_H_

#include "kvattend/v1/codec_service.grpc.pb.h"
#include "server/rpc/call.h"

namespace kvattend {

namespace internal {

using RawCodecService = v1::CodecService::WithRawCallbackMethod_Compress<
    v1::CodecService::WithRawCallbackMethod_Decompress<v1::CodecService::Service>>;

}  // namespace internal

class CodecService final : public internal::RawCodecService {
 public:
  explicit CodecService(const RpcEnvironment* environment) : environment_(*environment) {}

  grpc::ServerUnaryReactor* Compress(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Decompress(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;

 private:
  const RpcEnvironment& environment_;
};

}  // namespace kvattend

#endif  // KVATTEND_SERVER_RPC_CODEC_SERVICE_H_
