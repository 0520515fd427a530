#include "client/cpp/errors.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "google/rpc/error_details.pb.h"

namespace kvattend::client {
namespace {

// Reads the payload of Message's type into `message`; false where there is none.
template <typename Message>
bool ReadPayload(const absl::Status& status, Message* message) {
  const absl::optional<absl::Cord> payload =
      status.GetPayload(absl::StrCat("type.googleapis.com/", Message::descriptor()->full_name()));
  return payload.has_value() && message->ParseFromString(std::string(*payload));
}

}  // namespace

ErrorDetails GetErrorDetails(const absl::Status& status) {
  ErrorDetails details;
  if (google::rpc::ErrorInfo info; ReadPayload(status, &info)) {
    details.reason = info.reason();
    details.domain = info.domain();
    details.metadata.insert(info.metadata().begin(), info.metadata().end());
  }
  if (google::rpc::BadRequest bad_request; ReadPayload(status, &bad_request)) {
    for (const auto& violation : bad_request.field_violations()) {
      details.field_violations.push_back({violation.field(), violation.description()});
    }
  }
  if (google::rpc::RetryInfo retry; ReadPayload(status, &retry) && retry.has_retry_delay()) {
    details.retry_after = absl::Seconds(retry.retry_delay().seconds()) +
                          absl::Nanoseconds(retry.retry_delay().nanos());
  }
  if (google::rpc::ResourceInfo resource; ReadPayload(status, &resource)) {
    details.resource_name = resource.resource_name();
  }
  return details;
}

std::string DescribeError(const absl::Status& status) {
  const ErrorDetails details = GetErrorDetails(status);
  std::string text = absl::StatusCodeToString(status.code());
  if (!details.reason.empty()) absl::StrAppend(&text, " ", details.reason);
  if (!status.message().empty()) absl::StrAppend(&text, ": ", status.message());
  if (!details.metadata.empty()) {
    absl::StrAppend(&text, " (", absl::StrJoin(details.metadata, ", ", absl::PairFormatter("=")),
                    ")");
  }
  return text;
}

}  // namespace kvattend::client
