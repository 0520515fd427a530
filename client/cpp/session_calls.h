// Calls on sessions that both Client and Session make. Internal to client/cpp.
//
// Thread-safe: functions without state.
#ifndef KVATTEND_CLIENT_CPP_SESSION_CALLS_H_
#define KVATTEND_CLIENT_CPP_SESSION_CALLS_H_

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "client/cpp/connection.h"
#include "client/cpp/session.h"

namespace kvattend::client {

// 128 random bits, as an id that the server accepts.
std::string RandomSessionId();

absl::StatusOr<v1::Session> GetSession(const Connection& connection, absl::Time deadline,
                                       absl::string_view shard, const std::string& name);

// Runs `create`, which makes session `id`. Where an attempt was UNAVAILABLE and a later one finds
// that a session with a random id exists, the first one has made it: it is read and returned.
absl::StatusOr<v1::Session> MakeSession(
    const Connection& connection, absl::Time deadline, absl::string_view shard,
    const std::string& id, bool is_random_id,
    absl::FunctionRef<absl::StatusOr<v1::Session>(grpc::ClientContext*)> create);

// One attempt of an Append call: a status for each item, or that of the call.
absl::StatusOr<std::vector<absl::Status>> AppendOnce(const Connection& connection,
                                                     grpc::ClientContext* context,
                                                     const v1::AppendRequest& request);

// One query of an Attend call.
struct AttendTarget {
  const v1::Session* session = nullptr;
  const Query* query = nullptr;
};

// The item of `query` on `session`.
v1::AttendItem MakeAttendItem(const v1::Session& session, const Query& query);

// An Attend call over `targets`, retried: a result for each, or the status of the call.
absl::StatusOr<std::vector<absl::StatusOr<AttendOutput>>> CallAttend(
    const Connection& connection, absl::Time deadline, absl::string_view shard,
    absl::Span<const AttendTarget> targets, const AttendOptions& options);

}  // namespace kvattend::client

#endif  // KVATTEND_CLIENT_CPP_SESSION_CALLS_H_
