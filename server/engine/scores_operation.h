// Engine::ComputeScores, on the executor's thread.
#ifndef KVATTEND_SERVER_ENGINE_SCORES_OPERATION_H_
#define KVATTEND_SERVER_ENGINE_SCORES_OPERATION_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/engine/engine_state.h"
#include "server/engine/engine_types.h"

namespace kvattend {

// The entries that are in order go to the backend together. RESOURCE_EXHAUSTED RESPONSE_TOO_LARGE
// for the whole call, with "needed_bytes" and "max_bytes".
absl::StatusOr<ScoresAnswer> ComputeScores(EngineState& state, const QueryBatch& batch,
                                           const ScoreOptions& options, absl::string_view shard);

}  // namespace kvattend

#endif  // KVATTEND_SERVER_ENGINE_SCORES_OPERATION_H_
