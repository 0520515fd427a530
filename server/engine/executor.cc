#include "server/engine/executor.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/error.h"

namespace kvattend {
namespace {

// Long enough for a part of the queue to run.
constexpr absl::Duration kQueueFullRetry = absl::Milliseconds(100);
// Another server takes over, or this one starts again.
constexpr absl::Duration kDrainingRetry = absl::Seconds(1);

}  // namespace

Executor::Executor(int max_queue_depth, EngineMetrics* metrics, Clock* clock)
    : max_queue_depth_(static_cast<size_t>(max_queue_depth)),
      metrics_(metrics),
      clock_(clock),
      thread_([this] { Loop(); }) {}

Executor::~Executor() {
  Drain();
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    work_or_stop_.NotifyAll();
  }
  thread_.join();
}

void Executor::Submit(Operation operation) {
  absl::Status refusal = Enqueue(operation);
  if (!refusal.ok()) operation.run(std::move(refusal));
}

absl::Status Executor::Enqueue(Operation& operation) {
  const absl::Time now = clock_->Now();
  MutexLock lock(&mutex_);
  if (draining_) {
    metrics_->Rejected(RejectReason::kDraining);
    return Error(absl::StatusCode::kUnavailable, "DRAINING", "the server is shutting down")
        .RetryAfter(kDrainingRetry);
  }
  if (queue_.size() >= max_queue_depth_) {
    metrics_->Rejected(RejectReason::kQueueFull);
    return Error(absl::StatusCode::kUnavailable, "QUEUE_FULL",
                 absl::StrCat("the queue is full: ", max_queue_depth_, " operations wait"))
        .RetryAfter(kQueueFullRetry);
  }
  queue_.push_back({std::move(operation), now});
  metrics_->QueueDepth(static_cast<int>(queue_.size()));
  work_or_stop_.NotifyOne();
  return absl::OkStatus();
}

void Executor::Drain() {
  MutexLock lock(&mutex_);
  draining_ = true;
  while (busy_ || !queue_.empty()) idle_.Wait(&mutex_);
}

void Executor::Loop() {
  for (;;) {
    Queued next;
    {
      MutexLock lock(&mutex_);
      busy_ = false;
      if (queue_.empty()) idle_.NotifyAll();
      while (queue_.empty() && !stopping_) work_or_stop_.Wait(&mutex_);
      if (queue_.empty()) return;
      busy_ = true;
      next = std::move(queue_.front());
      queue_.pop_front();
      metrics_->QueueDepth(static_cast<int>(queue_.size()));
    }
    Run(std::move(next));
  }
}

void Executor::Run(Queued queued) {
  Operation& operation = queued.operation;
  const absl::Time now = clock_->Now();
  metrics_->QueueWait(operation.op, now - queued.since);
  absl::Status admission;
  // The deadline first: gRPC also cancels a call whose deadline has passed.
  if (now >= operation.context.deadline) {
    metrics_->Rejected(RejectReason::kDeadline);
    admission = Error(absl::StatusCode::kDeadlineExceeded, "DEADLINE_EXCEEDED",
                      "the call's deadline passed before its operation started");
  } else if (operation.context.is_cancelled && operation.context.is_cancelled()) {
    metrics_->Rejected(RejectReason::kCancelled);
    admission = Error(absl::StatusCode::kCancelled, "CANCELLED",
                      "the call was cancelled before its operation started");
  }
  operation.run(std::move(admission));
}

}  // namespace kvattend
