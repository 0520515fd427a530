// Engine::Attend, on the executor's thread.
#ifndef KVATTEND_SERVER_ENGINE_ATTEND_OPERATION_H_
#define KVATTEND_SERVER_ENGINE_ATTEND_OPERATION_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/engine/engine_state.h"
#include "server/engine/engine_types.h"

namespace kvattend {

// The entries that are in order go to the backend together.
absl::StatusOr<AttendAnswer> Attend(EngineState& state, const QueryBatch& batch,
                                    absl::string_view shard);

}  // namespace kvattend

#endif  // KVATTEND_SERVER_ENGINE_ATTEND_OPERATION_H_
