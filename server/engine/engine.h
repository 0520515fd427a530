// The engine: sessions and their caches, behind one bounded queue and one executor thread.
//
// Every call is asynchronous: it is queued, the executor runs it, and `done` is called once: on the
// executor's thread, or on the caller's before the call returns where the queue refuses it. `done`
// must not block. Operations run in the order in which they were queued, so each session's order is
// that of its calls. An operation whose deadline has passed or whose caller has cancelled when its
// turn comes is not started (DEADLINE_EXCEEDED, CANCELLED).
//
// Errors are statuses of server/base/error.h. Arguments have been validated on their own (ranges,
// sizes); the engine checks what depends on a session. An error of one entry of a batch is the
// entry's status and leaves the others alone; where the backend fails (UNAVAILABLE DEVICE_FAULT,
// RESOURCE_EXHAUSTED OUT_OF_MEMORY, UNIMPLEMENTED UNSUPPORTED_BY_DEVICE) the whole call fails, and
// nothing has changed.
//
// Thread-safe. The backend, metrics and clock outlive the engine.
#ifndef KVATTEND_SERVER_ENGINE_ENGINE_H_
#define KVATTEND_SERVER_ENGINE_ENGINE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "server/base/clock.h"
#include "server/engine/engine_metrics.h"
#include "server/engine/engine_types.h"

namespace kvattend {

class Engine {
 public:
  Engine(const EngineOptions& options, Backend* backend, EngineMetrics* metrics, Clock* clock);
  // Drains first.
  ~Engine();

  // Refuses new operations (UNAVAILABLE DRAINING), waits until those queued have run. Idempotent.
  // Not from the executor's thread.
  void Drain();

  void CreateSession(CreateSessionParams params, CallContext context, Done<SessionInfo> done);
  void GetSession(std::string id, CallContext context, Done<SessionInfo> done);
  // Up to page_size sessions with ids above `after`.
  void ListSessions(std::string after, int page_size, CallContext context, Done<SessionPage> done);
  // Gives the freed bytes.
  void DeleteSession(std::string id, CallContext context, Done<int64_t> done);
  // keep_exact unset: the session's recent window. codec unset: the session's. INVALID_ARGUMENT
  // KEEP_EXACT_OUT_OF_RANGE above the recent window, CODEC_NOT_SMALLER (also for another head_dim).
  void CompressSession(std::string id, std::optional<int64_t> keep_exact,
                       std::optional<CodecSpec> codec, CallContext context,
                       Done<SessionChange> done);
  void ForkSession(std::string source, std::string new_id, CallContext context,
                   Done<SessionInfo> done);
  void TruncateSession(std::string id, int64_t length, CallContext context,
                       Done<SessionChange> done);

  void Append(AppendBatch batch, CallContext context, Done<std::vector<AppendResult>> done);
  void Attend(QueryBatch batch, CallContext context, Done<AttendAnswer> done);
  void ComputeScores(QueryBatch batch, const ScoreOptions& options, CallContext context,
                     Done<ScoresAnswer> done);

  // Runs `work` on the executor's thread with the backend: for work without sessions. `op` is
  // kEncode or kDecode, `codec` the label of its metrics.
  void RunStateless(EngineOp op, std::string codec, absl::AnyInvocable<absl::Status(Backend&)> work,
                    CallContext context, absl::AnyInvocable<void(absl::Status)> done);

  // For the rpc layer's copies; as StagingBudget's. From any thread.
  absl::StatusOr<StagingBuffer> AllocateStaging(size_t size_bytes);
  // The last published figures. From any thread.
  MemoryUse memory_use() const;
  const Backend& backend() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvattend

#endif  // KVATTEND_SERVER_ENGINE_ENGINE_H_
