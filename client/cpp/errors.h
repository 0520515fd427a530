// Errors as callers of the client library see them.
//
// Every function of the library returns absl::Status or absl::StatusOr. The code is the server's,
// or that of gRPC where no server answered (UNAVAILABLE: not reachable; DEADLINE_EXCEEDED). The
// message is for people. What is for programs, the google.rpc details that came along, is carried
// in the status and read with GetErrorDetails.
//
// Thread-safe: pure functions.
#ifndef KVATTEND_CLIENT_CPP_ERRORS_H_
#define KVATTEND_CLIENT_CPP_ERRORS_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace kvattend::client {

struct ErrorDetails {
  struct FieldViolation {
    // Path of the field in the request, e.g. "items[3].num_tokens".
    std::string field;
    std::string description;
  };

  // UPPER_SNAKE_CASE, e.g. "POSITION_CONFLICT"; the proto files list them by method. Empty where
  // the error did not come from a handler of the server.
  std::string reason;
  // "kvattend" with every reason.
  std::string domain;
  // Values that belong to the reason, e.g. {"layer_0_position", "128"}.
  std::map<std::string, std::string> metadata;
  std::vector<FieldViolation> field_violations;
  // When the server suggests to try again.
  std::optional<absl::Duration> retry_after;
  // What the error is about, e.g. "sessions/chat-17"; may be empty.
  std::string resource_name;
};

// The details of a status of this library; all empty for any other status.
ErrorDetails GetErrorDetails(const absl::Status& status);

// One line for people: code, reason, message and metadata, e.g.
//   ABORTED POSITION_CONFLICT: expected position 64, found 128 (layer_0_position=128, revision=1)
std::string DescribeError(const absl::Status& status);

}  // namespace kvattend::client

#endif  // KVATTEND_CLIENT_CPP_ERRORS_H_
