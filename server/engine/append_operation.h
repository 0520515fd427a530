// Engine::Append, on the executor's thread.
#ifndef KVATTEND_SERVER_ENGINE_APPEND_OPERATION_H_
#define KVATTEND_SERVER_ENGINE_APPEND_OPERATION_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/engine/engine_state.h"
#include "server/engine/engine_types.h"

namespace kvattend {

// Each entry takes all units that it needs, for all its layers, or fails. The entries that remain
// go to the backend together; sessions change only once it has succeeded.
absl::StatusOr<std::vector<AppendResult>> Append(EngineState& state, const AppendBatch& batch,
                                                 absl::string_view shard);

}  // namespace kvattend

#endif  // KVATTEND_SERVER_ENGINE_APPEND_OPERATION_H_
