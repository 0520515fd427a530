// What goes into the engine's calls and what comes out.
//
// Plain values. A batch owns the staging memory of its tensors; so does an answer.
#ifndef KVATTEND_SERVER_ENGINE_ENGINE_TYPES_H_
#define KVATTEND_SERVER_ENGINE_ENGINE_TYPES_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/backend.h"
#include "server/store/session_info.h"

namespace kvattend {

struct EngineOptions {
  // Operations that may wait; one more is refused with UNAVAILABLE QUEUE_FULL.
  int max_queue_depth = 1024;
  // What the tensors of requests may take together; more is refused likewise.
  int64_t max_staging_bytes = int64_t{1} << 30;
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

}  // namespace kvattend

#endif  // KVATTEND_SERVER_ENGINE_ENGINE_TYPES_H_
