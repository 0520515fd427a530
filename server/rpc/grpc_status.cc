#include "server/rpc/grpc_status.h"

#include <algorithm>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "google/rpc/error_details.pb.h"
#include "server/base/error.h"

namespace kvattend {
namespace {

constexpr char kDomain[] = "kvattend";
constexpr char kSessionType[] = "kvattend.v1.Session";
constexpr size_t kMaxMessageBytes = 1024;
// When to try again after an UNAVAILABLE that does not say.
constexpr absl::Duration kDefaultRetryDelay = absl::Seconds(1);

// Protobuf strings and HTTP trailers want text: other bytes become '?'.
std::string SafeText(absl::string_view text) {
  std::string safe(text.substr(0, kMaxMessageBytes));
  std::replace_if(
      safe.begin(), safe.end(), [](char c) { return (c & 0x80) != 0 || c == 0; }, '?');
  return safe;
}

void SetDuration(absl::Duration duration, google::protobuf::Duration* proto) {
  const int64_t seconds = absl::IDivDuration(duration, absl::Seconds(1), &duration);
  proto->set_seconds(seconds);
  proto->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(duration)));
}

}  // namespace

std::string ErrorReason(const absl::Status& status) {
  std::string reason = GetErrorDetails(status).reason;
  if (!reason.empty()) return reason;
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
      return "DEVICE_FAULT";
    case absl::StatusCode::kResourceExhausted:
      return "OUT_OF_MEMORY";
    case absl::StatusCode::kUnimplemented:
      return "UNSUPPORTED_BY_DEVICE";
    default:
      // The code's own name, e.g. "INTERNAL", is in upper snake case.
      return absl::StatusCodeToString(status.code());
  }
}

google::rpc::Status ToRpcStatus(const absl::Status& status) {
  google::rpc::Status proto;
  if (status.ok()) return proto;
  const ErrorDetails details = GetErrorDetails(status);
  proto.set_code(static_cast<int32_t>(status.code()));
  proto.set_message(SafeText(status.message()));

  google::rpc::ErrorInfo info;
  info.set_reason(ErrorReason(status));
  info.set_domain(kDomain);
  for (const auto& [key, value] : details.metadata) {
    (*info.mutable_metadata())[key] = SafeText(value);
  }
  proto.add_details()->PackFrom(info);
  if (details.field.has_value()) {
    google::rpc::BadRequest bad_request;
    auto* violation = bad_request.add_field_violations();
    violation->set_field(SafeText(*details.field));
    violation->set_description(proto.message());
    proto.add_details()->PackFrom(bad_request);
  }
  if (details.retry_after.has_value() || status.code() == absl::StatusCode::kUnavailable) {
    google::rpc::RetryInfo retry;
    SetDuration(details.retry_after.value_or(kDefaultRetryDelay), retry.mutable_retry_delay());
    proto.add_details()->PackFrom(retry);
  }
  if (details.session.has_value()) {
    google::rpc::ResourceInfo resource;
    resource.set_resource_type(kSessionType);
    resource.set_resource_name(SafeText(*details.session));
    resource.set_description(proto.message());
    proto.add_details()->PackFrom(resource);
  }
  return proto;
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const google::rpc::Status proto = ToRpcStatus(status);
  return grpc::Status(static_cast<grpc::StatusCode>(proto.code()), proto.message(),
                      proto.SerializeAsString());
}

}  // namespace kvattend
