#include "client/cpp/status_conversion.h"

#include <grpcpp/support/status.h>

#include <string>

#include "absl/strings/cord.h"
#include "google/rpc/status.pb.h"

namespace kvattend::client {
namespace {

// gRPC's codes and absl's are the same numbers, 0 to 16.
absl::StatusCode ToCode(int code) {
  return code >= 0 && code <= 16 ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown;
}

void AttachDetails(const google::rpc::Status& source, absl::Status* status) {
  for (const auto& detail : source.details()) {
    status->SetPayload(detail.type_url(), absl::Cord(detail.value()));
  }
}

}  // namespace

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  absl::Status result(ToCode(status.error_code()), status.error_message());
  google::rpc::Status details;
  if (details.ParseFromString(status.error_details())) AttachDetails(details, &result);
  return result;
}

absl::Status FromProtoStatus(const google::rpc::Status& status) {
  if (status.code() == 0) return absl::OkStatus();
  absl::Status result(ToCode(status.code()), status.message());
  AttachDetails(status, &result);
  return result;
}

}  // namespace kvattend::client
