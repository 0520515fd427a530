// The operations of Engine that make, show and end sessions. On the executor's thread.
#ifndef KVATTEND_SERVER_ENGINE_SESSION_OPERATIONS_H_
#define KVATTEND_SERVER_ENGINE_SESSION_OPERATIONS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/engine/engine_state.h"
#include "server/engine/engine_types.h"

namespace kvattend {

absl::StatusOr<SessionInfo> CreateSession(EngineState& state, CreateSessionParams params);
absl::StatusOr<SessionInfo> GetSession(EngineState& state, absl::string_view id,
                                       absl::string_view shard);
SessionPage ListSessions(EngineState& state, absl::string_view after, int page_size);
absl::StatusOr<int64_t> DeleteSession(EngineState& state, absl::string_view id,
                                      absl::string_view shard);
absl::StatusOr<SessionInfo> ForkSession(EngineState& state, absl::string_view source,
                                        std::string new_id, absl::string_view shard);

}  // namespace kvattend

#endif  // KVATTEND_SERVER_ENGINE_SESSION_OPERATIONS_H_
