// Engine::CompressSession, on the executor's thread.
#ifndef KVATTEND_SERVER_ENGINE_COMPRESS_OPERATION_H_
#define KVATTEND_SERVER_ENGINE_COMPRESS_OPERATION_H_

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/engine/engine_state.h"
#include "server/engine/engine_types.h"

namespace kvattend {

// The whole session or nothing: the new blocks are taken before the old memory goes. Freed bytes
// are the difference in the arena; 0 where forks hold so much of the old that it grows.
absl::StatusOr<SessionChange> CompressSession(EngineState& state, absl::string_view id,
                                              std::optional<int64_t> keep_exact,
                                              std::optional<CodecSpec> codec,
                                              absl::string_view shard);

}  // namespace kvattend

#endif  // KVATTEND_SERVER_ENGINE_COMPRESS_OPERATION_H_
