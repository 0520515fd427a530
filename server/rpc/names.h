// The strings that callers choose: session ids and names, placement keys, page tokens.
//
// Thread-safe: pure functions.
#ifndef KVATTEND_SERVER_RPC_NAMES_H_
#define KVATTEND_SERVER_RPC_NAMES_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/rpc/validation.h"

namespace kvattend {

// INVALID_ARGUMENT INVALID_SESSION_NAME unless `id` is 1 to 128 characters of [A-Za-z0-9._~-], the
// first one a letter or a digit.
absl::Status ValidateSessionId(absl::string_view id, const FieldPath& field);

// "sessions/{id}".
std::string SessionName(absl::string_view id);

// The id of "sessions/{id}"; INVALID_ARGUMENT INVALID_SESSION_NAME otherwise.
absl::StatusOr<std::string> ParseSessionName(absl::string_view name, const FieldPath& field);

// INVALID_ARGUMENT INVALID_SHARD unless `shard` is 1 to 256 printable ASCII characters.
absl::Status ValidateShard(absl::string_view shard);

// A page token says after which session id the next page starts. The empty token is the empty id.
std::string MakePageToken(absl::string_view after);
// INVALID_ARGUMENT INVALID_PAGE_TOKEN for what MakePageToken did not make.
absl::StatusOr<std::string> ParsePageToken(absl::string_view token);

}  // namespace kvattend

#endif  // KVATTEND_SERVER_RPC_NAMES_H_
