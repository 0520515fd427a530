// One thread that runs operations in the order in which they came, from a bounded queue.
//
// Thread-safe. The metrics and the clock outlive it.
#ifndef KVATTEND_SERVER_ENGINE_EXECUTOR_H_
#define KVATTEND_SERVER_ENGINE_EXECUTOR_H_

#include <cstddef>
#include <deque>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/engine/engine_metrics.h"
#include "server/engine/engine_types.h"

namespace kvattend {

struct Operation {
  EngineOp op;
  CallContext context;
  // Called once. OK: does the operation, on the executor's thread. Otherwise only answers with the
  // error: UNAVAILABLE QUEUE_FULL or DRAINING on the thread of Submit; DEADLINE_EXCEEDED or
  // CANCELLED on the executor's.
  absl::AnyInvocable<void(absl::Status admission)> run;
};

class Executor {
 public:
  Executor(int max_queue_depth, EngineMetrics* metrics, Clock* clock);
  // Drains first.
  ~Executor();

  void Submit(Operation operation);

  // Refuses new operations, returns when all others have run. Not from an operation.
  void Drain();

 private:
  struct Queued {
    Operation operation;
    absl::Time since;
  };

  // Puts the operation into the queue, or leaves it alone and says why.
  absl::Status Enqueue(Operation& operation);
  void Loop();
  void Run(Queued queued);

  const size_t max_queue_depth_;
  EngineMetrics* const metrics_;
  Clock* const clock_;

  Mutex mutex_;
  CondVar work_or_stop_;
  CondVar idle_;
  std::deque<Queued> queue_ ABSL_GUARDED_BY(mutex_);
  bool busy_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  std::thread thread_;
};

}  // namespace kvattend

#endif  // KVATTEND_SERVER_ENGINE_EXECUTOR_H_
