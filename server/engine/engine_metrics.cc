#include "server/engine/engine_metrics.h"

#include "kernels/base/check.h"

namespace kvattend {

absl::string_view EngineOpName(EngineOp op) {
  switch (op) {
    case EngineOp::kCreate:
      return "create_session";
    case EngineOp::kGet:
      return "get_session";
    case EngineOp::kList:
      return "list_sessions";
    case EngineOp::kDelete:
      return "delete_session";
    case EngineOp::kCompressSession:
      return "compress_session";
    case EngineOp::kFork:
      return "fork_session";
    case EngineOp::kTruncate:
      return "truncate_session";
    case EngineOp::kAppend:
      return "append";
    case EngineOp::kAttend:
      return "attend";
    case EngineOp::kScores:
      return "compute_scores";
    case EngineOp::kEncode:
      return "compress";
    case EngineOp::kDecode:
      return "decompress";
  }
  KVATTEND_CHECK(false);
}

absl::string_view RejectReasonName(RejectReason reason) {
  switch (reason) {
    case RejectReason::kQueueFull:
      return "queue_full";
    case RejectReason::kDraining:
      return "draining";
    case RejectReason::kDeadline:
      return "deadline";
    case RejectReason::kCancelled:
      return "cancelled";
    case RejectReason::kArenaFull:
      return "arena_full";
    case RejectReason::kTooManySessions:
      return "too_many_sessions";
  }
  KVATTEND_CHECK(false);
}

}  // namespace kvattend
