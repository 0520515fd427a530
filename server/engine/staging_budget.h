// How much staging memory requests hold at a time. Those that wait in the queue hold their tensors,
// and the queue bounds only their number.
//
// Thread-safe. The backend and the metrics outlive it; it outlives the buffers that it gave.
#ifndef KVATTEND_SERVER_ENGINE_STAGING_BUDGET_H_
#define KVATTEND_SERVER_ENGINE_STAGING_BUDGET_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "server/engine/engine_metrics.h"

namespace kvattend {

class StagingBudget {
 public:
  StagingBudget(int64_t max_bytes, Backend* backend, EngineMetrics* metrics)
      : max_bytes_(max_bytes), backend_(*backend), metrics_(*metrics) {}

  // UNAVAILABLE QUEUE_FULL if all buffers would exceed max_bytes together; a single one never does.
  // Errors of the backend as FromBackend gives them.
  absl::StatusOr<StagingBuffer> Allocate(size_t size_bytes);

 private:
  const int64_t max_bytes_;
  Backend& backend_;
  EngineMetrics& metrics_;
  std::atomic<int64_t> held_bytes_ = 0;
};

}  // namespace kvattend

#endif  // KVATTEND_SERVER_ENGINE_STAGING_BUDGET_H_
