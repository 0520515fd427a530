// Statuses of this server as google.rpc.Status and grpc::Status.
//
// Both carry google.rpc.ErrorInfo with domain "kvattend" and, where the status says so, BadRequest,
// RetryInfo and ResourceInfo. A status that was not made by kvattend::Error (a backend's) gets a
// reason by its code. Messages keep their first 1,024 bytes, in valid UTF-8.
//
// Thread-safe: pure functions.
#ifndef KVATTEND_SERVER_RPC_GRPC_STATUS_H_
#define KVATTEND_SERVER_RPC_GRPC_STATUS_H_

#include <string>

#include "absl/status/status.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/support/status.h"

namespace kvattend {

// The reason of an error, never empty: its own, or one by its code.
std::string ErrorReason(const absl::Status& status);

// The empty message for OK.
google::rpc::Status ToRpcStatus(const absl::Status& status);

// The details are the serialized google.rpc.Status ("grpc-status-details-bin").
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace kvattend

#endif  // KVATTEND_SERVER_RPC_GRPC_STATUS_H_
