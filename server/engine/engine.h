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
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/backend.h"
#include "server/base/clock.h"
#include "server/engine/engine_metrics.h"
#include "server/store/session_info.h"

namespace kvattend {

struct EngineOptions {
  // Operations that may wait; one more is refused with UNAVAILABLE QUEUE_FULL.
  int max_queue_depth = 1024;
  int64_t max_sessions = 100000;
  // Where the ids come from that the engine chooses; must be hard to guess. Called on the
  // executor's thread. Empty: std::random_device.
  std::function<uint64_t()> random;
};

// Who calls, and until when.
struct CallContext {
  absl::Time deadline = absl::InfiniteFuture();
  // Whether the caller has gone; may be empty. Called on the executor's thread.
  std::function<bool()> is_cancelled;
  // The call's placement key; empty: none, and nothing is checked.
  std::string shard;
};

template <typename T>
using Done = absl::AnyInvocable<void(absl::StatusOr<T>)>;

struct CreateSessionParams {
  // Empty: the engine chooses one.
  std::string id;
  ModelShape shape;
  CodecSpec codec;
  int64_t recent_window = 64;
  // Empty: the id.
  std::string shard;
};

struct SessionPage {
  std::vector<SessionInfo> sessions;
  // Empty on the last page, else the last id of this one.
  std::string next_after;
};

// Memory that a call freed, and the session after it.
struct SessionChange {
  SessionInfo session;
  int64_t freed_bytes = 0;
};

struct AppendEntry {
  std::string session;
  int64_t revision = 0;
  int64_t expected_position = 0;
  std::vector<int> layers;
  int num_tokens = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  // Not OK where the entry's tensors are bad: it fails with this, once session, revision and
  // positions have been found right.
  absl::Status input_status;
  // float16 [layers.size()][num_tokens, num_kv_heads, head_dim], in the batch's staging.
  const uint16_t* keys = nullptr;
  const uint16_t* values = nullptr;
};
struct AppendBatch {
  StagingBuffer staging;
  std::vector<AppendEntry> entries;
};
struct AppendResult {
  absl::Status status;
  bool replayed = false;
  // The least length of the entry's layers.
  int64_t position = 0;
  int64_t revision = 0;
};

struct QueryEntry {
  std::string session;
  int layer = 0;
  int num_tokens = 0;
  int num_query_heads = 0;
  int head_dim = 0;
  std::optional<float> scale;
  int64_t start_position = 0;
  int64_t min_position = 0;
  absl::Status input_status;
  // float32 [num_tokens, num_query_heads, head_dim], in the batch's staging.
  const float* queries = nullptr;
};
struct QueryBatch {
  StagingBuffer staging;
  std::vector<QueryEntry> entries;
};

struct AttendResult {
  absl::Status status;
  int64_t position = 0;
  // In the answer's staging; null on errors. As in AttendTask.
  const float* output = nullptr;
  const float* lse = nullptr;
};
struct AttendAnswer {
  // The outputs of the results that are OK, one after the other, then their LSEs.
  StagingBuffer staging;
  std::vector<AttendResult> results;
};

struct ScoreOptions {
  bool softmax = false;
  int top_k = 0;
  // The most bytes of scores and positions an answer may have.
  int64_t max_answer_bytes = 0;
};
struct ScoresResult {
  absl::Status status;
  int64_t position = 0;
  int64_t num_scores = 0;
  // As in ScoreTask; null on errors; positions null without top_k.
  const float* scores = nullptr;
  const int64_t* positions = nullptr;
};
struct ScoresAnswer {
  // The scores of the results that are OK, one after the other, then their positions, if any.
  StagingBuffer staging;
  std::vector<ScoresResult> results;
};

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

  // For the rpc layer's copies. From any thread.
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
