// Errors of the server: an absl::Status whose payloads say, for programs, what is wrong. The rpc
// layer turns them into google.rpc details (server/rpc/grpc_status.h); no layer below knows
// protobuf.
//
// Thread-safe: pure functions.
#ifndef KVATTEND_SERVER_BASE_ERROR_H_
#define KVATTEND_SERVER_BASE_ERROR_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace kvattend {

// What the payloads hold.
struct ErrorDetails {
  // UPPER_SNAKE_CASE, e.g. "POSITION_CONFLICT". Empty if the status was not made here.
  std::string reason;
  // Values for programs, sorted by key.
  std::vector<std::pair<std::string, std::string>> metadata;
  // The field of the request that is wrong, e.g. "items[3].num_tokens"; the status's message is its
  // description.
  std::optional<std::string> field;
  std::optional<absl::Duration> retry_after;
  // "sessions/{id}".
  std::optional<std::string> session;
};

// Builds a status: Error(code, "REASON", "message").With("key", "value").Field("items[0].layer").
class Error {
 public:
  Error(absl::StatusCode code, absl::string_view reason, absl::string_view message);

  Error& With(absl::string_view key, absl::string_view value);
  Error& With(absl::string_view key, int64_t value);
  Error& Field(absl::string_view path);
  Error& RetryAfter(absl::Duration delay);
  Error& Session(absl::string_view id);

  operator absl::Status() const { return status_; }  // NOLINT: meant to be implicit

 private:
  absl::Status status_;
};

// The details of a status, also of one that was not made here (then `reason` is empty).
ErrorDetails GetErrorDetails(const absl::Status& status);

}  // namespace kvattend

#endif  // KVATTEND_SERVER_BASE_ERROR_H_
