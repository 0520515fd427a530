// What the engine reports about itself. server/observability implements it for Prometheus; tests
// implement it to look.
//
// Thread-safe: called from the executor and from rpc threads, also under a lock of the engine: so
// implementations neither block nor call the engine.
#ifndef KVATTEND_SERVER_ENGINE_ENGINE_METRICS_H_
#define KVATTEND_SERVER_ENGINE_ENGINE_METRICS_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace kvattend {

// Values of the `op` label.
enum class EngineOp {
  kCreate,
  kGet,
  kList,
  kDelete,
  kCompressSession,
  kFork,
  kTruncate,
  kAppend,
  kAttend,
  kScores,
  kEncode,
  kDecode
};
inline constexpr int kNumEngineOps = 12;
// "create_session", "attend", ...; kEncode and kDecode are "compress" and "decompress".
absl::string_view EngineOpName(EngineOp op);

// Why a session ended. kExpired comes with leases.
enum class SessionCloseReason { kDeleted };

// Why an operation, or an entry of one, was refused and changed nothing.
enum class RejectReason {
  kQueueFull,
  kDraining,
  kDeadline,
  kCancelled,
  kArenaFull,
  kTooManySessions
};
inline constexpr int kNumRejectReasons = 6;
absl::string_view RejectReasonName(RejectReason reason);

struct MemoryUse {
  // Arena bytes that blocks and pages take, counted once where forks share them.
  int64_t kv_bytes = 0;
  // What all sessions' tokens would take as dense float16.
  int64_t dense_bytes = 0;
  int64_t capacity_bytes = 0;
  int64_t num_sessions = 0;
};

class EngineMetrics {
 public:
  virtual ~EngineMetrics() = default;
  virtual void QueueDepth(int depth) = 0;
  virtual void QueueWait(EngineOp op, absl::Duration wait) = 0;
  // Time in the backend; `codec` is a preset's name or "custom" ("mixed" in a batch of several).
  virtual void KernelTime(EngineOp op, absl::string_view codec, absl::Duration time) = 0;
  virtual void BatchSize(EngineOp op, int items) = 0;
  virtual void Rejected(RejectReason reason) = 0;
  virtual void AppendReplayed() = 0;
  // Each layer counts: one token of all layers is num_layers layer tokens.
  virtual void TokensAppended(int64_t layer_tokens) = 0;
  // float16 bytes that went into blocks and the blocks' bytes; recoded blocks count again.
  virtual void Compressed(absl::string_view codec, int64_t input_bytes, int64_t output_bytes) = 0;
  virtual void SessionClosed(SessionCloseReason reason) = 0;
  virtual void Memory(const MemoryUse& use) = 0;
};

}  // namespace kvattend

#endif  // KVATTEND_SERVER_ENGINE_ENGINE_METRICS_H_
