// kvattend.v1.ServerService: what this server is. Thread-safe.
#ifndef KVATTEND_SERVER_RPC_SERVER_SERVICE_H_
#define KVATTEND_SERVER_RPC_SERVER_SERVICE_H_

#include <string>
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "kvattend/v1/server_service.grpc.pb.h"
#include "server/rpc/call.h"

namespace kvattend {

struct BuildInfo {
  // Semantic version.
  std::string version;
  // Of the source; "unknown" outside a repository.
  std::string commit;
  // What was left out, e.g. "cuda".
  std::vector<std::string> missing_capabilities;
};

v1::GetServerInfoResponse MakeServerInfo(const BuildInfo& build, const DeviceInfo& device,
                                         const Limits& limits, const MemoryUse& memory);

class ServerService final
    : public v1::ServerService::WithRawCallbackMethod_GetServerInfo<v1::ServerService::Service> {
 public:
  ServerService(const RpcEnvironment* environment, BuildInfo build)
      : environment_(*environment), build_(std::move(build)) {}

  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context,
                                          const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* response) override;

 private:
  const RpcEnvironment& environment_;
  const BuildInfo build_;
};

}  // namespace kvattend

#endif  // KVATTEND_SERVER_RPC_SERVER_SERVICE_H_
