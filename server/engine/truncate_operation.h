// Engine::TruncateSession, on the executor's thread.
#ifndef KVATTEND_SERVER_ENGINE_TRUNCATE_OPERATION_H_
#define KVATTEND_SERVER_ENGINE_TRUNCATE_OPERATION_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/engine/engine_state.h"
#include "server/engine/engine_types.h"

namespace kvattend {

// All layers or none: FAILED_PRECONDITION TRUNCATE_INSIDE_BLOCK, OUT_OF_RANGE LENGTH_BEYOND_END.
absl::StatusOr<SessionChange> TruncateSession(EngineState& state, absl::string_view id,
                                              int64_t length, absl::string_view shard);

}  // namespace kvattend

#endif  // KVATTEND_SERVER_ENGINE_TRUNCATE_OPERATION_H_
