// What operations work on. Used on the executor's thread only.
#ifndef KVATTEND_SERVER_ENGINE_ENGINE_STATE_H_
#define KVATTEND_SERVER_ENGINE_ENGINE_STATE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "server/base/clock.h"
#include "server/engine/engine_metrics.h"
#include "server/engine/engine_types.h"
#include "server/store/block_pool.h"
#include "server/store/session_table.h"

namespace kvattend {

struct EngineState {
  EngineState(const EngineOptions& options, Backend* backend, EngineMetrics* metrics, Clock* clock);

  const EngineOptions options;
  Backend* const backend;
  EngineMetrics* const metrics;
  Clock* const clock;
  // Before the sessions, whose units it has.
  BlockPool pool;
  SessionTable sessions;
  // Of all sessions.
  int64_t dense_bytes = 0;

  MemoryUse memory_use() const;

  // NOT_FOUND SESSION_NOT_FOUND; FAILED_PRECONDITION WRONG_SHARD where the call has a shard and the
  // session another one.
  absl::StatusOr<Session*> FindSession(absl::string_view id, absl::string_view shard);

  // The sizes of units. INVALID_ARGUMENT SHAPE_TOO_LARGE where one exceeds a slab.
  absl::StatusOr<UnitSizes> GetUnitSizes(const LayerShape& shape) const;

  // As the pool's; counts the refusal.
  absl::StatusOr<std::vector<UnitList>> AllocateUnits(absl::Span<const BlockPool::Demand> demands);

  // Counts blocks that were written.
  void CountCompressed(const LayerShape& shape, size_t block_bytes, int64_t num_blocks) const;

  // Lets `work` use the backend and measures it.
  absl::Status UseBackend(EngineOp op, absl::string_view codec,
                          absl::FunctionRef<absl::Status(Backend&)> work) const;
};

// The status of a backend, with a reason for programs.
absl::Status FromBackend(const absl::Status& status);

// The codec label of a batch: the codec's name, "mixed" for several.
class CodecLabel {
 public:
  void Add(const CodecSpec& codec);
  // At least one codec has been added.
  absl::string_view name() const;

 private:
  std::optional<CodecSpec> codec_;
  bool mixed_ = false;
};

}  // namespace kvattend

#endif  // KVATTEND_SERVER_ENGINE_ENGINE_STATE_H_
