#include "server/engine/executor.h"

#include <algorithm>
#include <atomic>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/base/error.h"
#include "tests/support/fake_clock.h"
#include "tests/support/recording_metrics.h"

namespace kvattend {
namespace {

using ::kvattend::testing::FakeClock;
using ::kvattend::testing::RecordingMetrics;
using ::testing::ElementsAre;

// Keeps the executor's thread busy until it is opened.
class Gate {
 public:
  Operation MakeOperation() {
    return {EngineOp::kAttend, {}, [this](absl::Status) {
              entered_.set_value();
              open_.get_future().wait();
            }};
  }
  void WaitUntilEntered() { entered_.get_future().wait(); }
  void Open() { open_.set_value(); }

 private:
  std::promise<void> entered_;
  std::promise<void> open_;
};

class ExecutorTest : public ::testing::Test {
 protected:
  // Notes "name" when it runs, "name REASON" when it is refused.
  Operation Note(std::string name, CallContext context = {}) {
    return {
        EngineOp::kAppend, std::move(context),
        [this, name = std::move(name)](absl::Status admission) {
          MutexLock lock(&mutex_);
          notes_.push_back(admission.ok() ? name : name + " " + GetErrorDetails(admission).reason);
          statuses_.push_back(admission);
        }};
  }
  std::vector<std::string> notes() {
    MutexLock lock(&mutex_);
    return notes_;
  }
  std::vector<absl::Status> statuses() {
    MutexLock lock(&mutex_);
    return statuses_;
  }

  FakeClock clock_;
  RecordingMetrics metrics_;

 private:
  Mutex mutex_;
  std::vector<std::string> notes_ ABSL_GUARDED_BY(mutex_);
  std::vector<absl::Status> statuses_ ABSL_GUARDED_BY(mutex_);
};

TEST_F(ExecutorTest, RunsOperationsInOrder) {
  Executor executor(100, &metrics_, &clock_);
  for (const char* name : {"a", "b", "c", "d"}) executor.Submit(Note(name));
  executor.Drain();
  EXPECT_THAT(notes(), ElementsAre("a", "b", "c", "d"));
  EXPECT_EQ(metrics_.Get().queue_depth, 0);
}

TEST_F(ExecutorTest, RefusesAtOnceWhatTheQueueDoesNotHold) {
  Executor executor(2, &metrics_, &clock_);
  Gate gate;
  executor.Submit(gate.MakeOperation());
  gate.WaitUntilEntered();
  executor.Submit(Note("a"));
  executor.Submit(Note("b"));
  executor.Submit(Note("c"));
  EXPECT_THAT(notes(), ElementsAre("c QUEUE_FULL"));
  EXPECT_EQ(statuses().front().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(GetErrorDetails(statuses().front()).retry_after.has_value());
  EXPECT_EQ(metrics_.Get().rejected[RejectReason::kQueueFull], 1);
  EXPECT_EQ(metrics_.Get().queue_depth, 2);
  gate.Open();
  executor.Drain();
  EXPECT_THAT(notes(), ElementsAre("c QUEUE_FULL", "a", "b"));
  EXPECT_EQ(metrics_.Get().max_queue_depth, 2);
}

TEST_F(ExecutorTest, DoesNotStartWhatCameTooLate) {
  Executor executor(10, &metrics_, &clock_);
  Gate gate;
  executor.Submit(gate.MakeOperation());
  gate.WaitUntilEntered();
  // gRPC cancels a call whose deadline has passed.
  executor.Submit(Note(
      "late", {.deadline = clock_.Now() + absl::Seconds(1), .is_cancelled = [] { return true; }}));
  executor.Submit(Note("in time", {.deadline = clock_.Now() + absl::Seconds(3)}));
  clock_.Advance(absl::Seconds(2));
  gate.Open();
  executor.Drain();
  EXPECT_THAT(notes(), ElementsAre("late DEADLINE_EXCEEDED", "in time"));
  EXPECT_EQ(statuses().front().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(metrics_.Get().rejected[RejectReason::kDeadline], 1);
  EXPECT_EQ(metrics_.Get().queue_wait[EngineOp::kAppend], absl::Seconds(4));
}

TEST_F(ExecutorTest, DoesNotStartWhatWasCancelled) {
  Executor executor(10, &metrics_, &clock_);
  Gate gate;
  executor.Submit(gate.MakeOperation());
  gate.WaitUntilEntered();
  std::atomic<bool> cancelled = false;
  executor.Submit(Note("a", {.is_cancelled = [&cancelled] { return cancelled.load(); }}));
  executor.Submit(Note("b", {.is_cancelled = [] { return false; }}));
  cancelled = true;
  gate.Open();
  executor.Drain();
  EXPECT_THAT(notes(), ElementsAre("a CANCELLED", "b"));
  EXPECT_EQ(statuses().front().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(metrics_.Get().rejected[RejectReason::kCancelled], 1);
}

TEST_F(ExecutorTest, DrainingFinishesWhatIsQueuedAndRefusesTheRest) {
  Executor executor(10, &metrics_, &clock_);
  Gate gate;
  executor.Submit(gate.MakeOperation());
  gate.WaitUntilEntered();
  executor.Submit(Note("a"));
  std::thread drainer([&executor] { executor.Drain(); });
  // The drainer may not have got there yet: then more are queued.
  int accepted = 0;
  while (metrics_.Get().rejected[RejectReason::kDraining] == 0) {
    executor.Submit({EngineOp::kGet, {}, [&accepted](absl::Status admission) {
                       if (admission.ok()) ++accepted;
                     }});
  }
  executor.Submit(Note("b"));
  EXPECT_THAT(notes(), ElementsAre("b DRAINING"));
  EXPECT_TRUE(GetErrorDetails(statuses().front()).retry_after.has_value());
  gate.Open();
  drainer.join();
  EXPECT_THAT(notes(), ElementsAre("b DRAINING", "a"));
  executor.Drain();
}

TEST_F(ExecutorTest, TheDestructorRunsWhatIsQueued) {
  {
    Executor executor(100, &metrics_, &clock_);
    for (int i = 0; i < 50; ++i) executor.Submit(Note("x"));
  }
  EXPECT_EQ(notes().size(), 50u);
}

TEST_F(ExecutorTest, AnswersEveryOperationOfManyThreadsOnce) {
  constexpr int kThreads = 8;
  constexpr int kOperations = 500;
  std::atomic<int> refused = 0;
  // Per thread, only written by the executor: the operations in the order in which they ran.
  std::vector<std::vector<int>> ran(kThreads);
  {
    Executor executor(64, &metrics_, &clock_);
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < kOperations; ++i) {
          executor.Submit({EngineOp::kGet, {}, [&, t, i](absl::Status admission) {
                             if (admission.ok()) {
                               ran[t].push_back(i);
                             } else {
                               ++refused;
                             }
                           }});
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  int total = refused;
  for (const std::vector<int>& order : ran) {
    EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
    total += static_cast<int>(order.size());
  }
  EXPECT_EQ(total, kThreads * kOperations);
  EXPECT_EQ(metrics_.Get().rejected[RejectReason::kQueueFull], refused);
  EXPECT_LE(metrics_.Get().max_queue_depth, 64);
}

}  // namespace
}  // namespace kvattend
