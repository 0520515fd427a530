// kvattend.v1.SessionService over the engine. Thread-safe.
#ifndef KVATTEND_SERVER_RPC_SESSION_SERVICE_H_
#define KVATTEND_SERVER_RPC_SESSION_SERVICE_H_

#include "kvattend/v1/session_service.grpc.pb.h"
#include "server/rpc/call.h"

namespace kvattend {

namespace internal {

template <typename Base>
using RawSessionReads = v1::SessionService::WithRawCallbackMethod_GetSession<
    v1::SessionService::WithRawCallbackMethod_ListSessions<Base>>;
template <typename Base>
using RawSessionChanges = v1::SessionService::WithRawCallbackMethod_CreateSession<
    v1::SessionService::WithRawCallbackMethod_DeleteSession<
        v1::SessionService::WithRawCallbackMethod_CompressSession<
            v1::SessionService::WithRawCallbackMethod_ForkSession<
                v1::SessionService::WithRawCallbackMethod_TruncateSession<Base>>>>>;
using RawSessionService = RawSessionReads<RawSessionChanges<v1::SessionService::Service>>;

}  // namespace internal

class SessionService final : public internal::RawSessionService {
 public:
  explicit SessionService(const RpcEnvironment* environment) : environment_(*environment) {}

  grpc::ServerUnaryReactor* CreateSession(grpc::CallbackServerContext* context,
                                          const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetSession(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* ListSessions(grpc::CallbackServerContext* context,
                                         const grpc::ByteBuffer* request,
                                         grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* DeleteSession(grpc::CallbackServerContext* context,
                                          const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* CompressSession(grpc::CallbackServerContext* context,
                                            const grpc::ByteBuffer* request,
                                            grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* ForkSession(grpc::CallbackServerContext* context,
                                        const grpc::ByteBuffer* request,
                                        grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* TruncateSession(grpc::CallbackServerContext* context,
                                            const grpc::ByteBuffer* request,
                                            grpc::ByteBuffer* response) override;

 private:
  const RpcEnvironment& environment_;
};

}  // namespace kvattend

#endif  // KVATTEND_SERVER_RPC_SESSION_SERVICE_H_
