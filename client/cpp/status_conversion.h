// From the wire's statuses to absl::Status, details kept as payloads (type URL to message bytes).
// Internal to client/cpp.
//
// Thread-safe: pure functions.
#ifndef KVATTEND_CLIENT_CPP_STATUS_CONVERSION_H_
#define KVATTEND_CLIENT_CPP_STATUS_CONVERSION_H_

#include "absl/status/status.h"

namespace google::rpc {
class Status;
}
namespace grpc {
class Status;
}

namespace kvattend::client {

// A call's outcome. Codes that gRPC does not define become UNKNOWN.
absl::Status FromGrpcStatus(const grpc::Status& status);

// An item's outcome.
absl::Status FromProtoStatus(const google::rpc::Status& status);

}  // namespace kvattend::client

#endif  // KVATTEND_CLIENT_CPP_STATUS_CONVERSION_H_
