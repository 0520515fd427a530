#include "server/engine/engine.h"

#include <atomic>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/server/engine/puppet_engine_test.h"

namespace kvattend::testing {
namespace {

using ::testing::ElementsAre;

using EngineTest = PuppetEngineTest;

TEST_F(EngineTest, PublishesItsCapacityAtOnce) {
  EXPECT_EQ(harness_.engine().memory_use().capacity_bytes, 16 * int64_t{kSlabBytes});
  EXPECT_EQ(harness_.metrics().Get().memory.capacity_bytes, 16 * int64_t{kSlabBytes});
  EXPECT_EQ(harness_.engine().backend().device().name, "puppet");
}

TEST_F(EngineTest, KeepsTheOrderOfCalls) {
  Create("a");
  backend_.Hold();
  Engine& engine = harness_.engine();
  // Queued behind a held append: two more of them and a truncation that needs both.
  std::vector<std::string> done;
  const auto append = [&](int position) {
    const AppendEntry entry = Entry("a", {0}, position, 10);
    AppendBatchBuilder builder(engine);
    const std::vector<uint16_t> keys = Tagged(entry, position);
    engine.Append(builder.Add(entry, keys, keys).Build(), {},
                  [&done, position](absl::StatusOr<std::vector<AppendResult>> results) {
                    EXPECT_TRUE(results->front().status.ok()) << results->front().status;
                    done.push_back(absl::StrCat("append at ", position));
                  });
  };
  for (int position : {0, 10, 20}) append(position);
  engine.TruncateSession("a", 25, {}, [&done](absl::StatusOr<SessionChange> change) {
    EXPECT_TRUE(change.ok()) << change.status();
    done.push_back("truncate");
  });
  engine.DeleteSession("a", {}, [&done](absl::StatusOr<int64_t> freed) {
    EXPECT_TRUE(freed.ok()) << freed.status();
    done.push_back("delete");
  });
  backend_.WaitUntilHeld();
  backend_.Release();
  engine.Drain();
  EXPECT_THAT(done,
              ElementsAre("append at 0", "append at 10", "append at 20", "truncate", "delete"));
}

TEST_F(EngineTest, AFullQueueRefuses) {
  PuppetBackend backend(kSlabBytes);
  EngineHarness harness(&backend, {.max_queue_depth = 1});
  ASSERT_TRUE(harness.Create(Params("a")).ok());
  backend.Hold();
  const AppendEntry entry = Entry("a", {0}, 0, 1);
  AppendBatchBuilder builder(harness.engine());
  std::atomic<int> answered = 0;
  harness.engine().Append(builder.Add(entry, Tagged(entry, 0), Tagged(entry, 0)).Build(), {},
                          [&](absl::StatusOr<std::vector<AppendResult>> results) {
                            EXPECT_TRUE(results.ok());
                            ++answered;
                          });
  backend.WaitUntilHeld();
  harness.engine().GetSession("a", {}, [&](absl::StatusOr<SessionInfo> info) {
    EXPECT_TRUE(info.ok());
    ++answered;
  });
  EXPECT_EQ(ReasonOf(harness.Get("a").status()), "QUEUE_FULL");
  EXPECT_EQ(answered, 0);
  backend.Release();
  harness.engine().Drain();
  EXPECT_EQ(answered, 2);
  EXPECT_EQ(ReasonOf(harness.Get("a").status()), "DRAINING");
}

TEST_F(EngineTest, AnswersWithoutWorkWhatHasBeenCancelledOrIsLate) {
  Create("a");
  EXPECT_EQ(harness_.Delete("a", {.deadline = harness_.clock().Now()}).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(harness_.Delete("a", {.is_cancelled = [] { return true; }}).status().code(),
            absl::StatusCode::kCancelled);
  EXPECT_TRUE(harness_.Get("a").ok());
}

TEST_F(EngineTest, RunsStatelessWork) {
  const auto run = [&](absl::Status result) {
    std::promise<absl::Status> promise;
    harness_.engine().RunStateless(
        EngineOp::kEncode, "int4",
        [&](Backend& backend) {
          EXPECT_EQ(&backend, &backend_);
          return result;
        },
        {}, [&](absl::Status status) { promise.set_value(status); });
    const absl::Status status = promise.get_future().get();
    return status;
  };
  EXPECT_TRUE(run(absl::OkStatus()).ok());
  EXPECT_EQ(ReasonOf(run(absl::UnavailableError("gone"))), "DEVICE_FAULT");
  const absl::Status own = Error(absl::StatusCode::kInvalidArgument, "CORRUPT_BLOCK", "bad bytes");
  EXPECT_EQ(run(own), own);
  EXPECT_THAT(harness_.metrics().Get().kernel_codecs, ElementsAre("int4", "int4", "int4"));
}

TEST_F(EngineTest, StagingFailuresHaveAReason) {
  EXPECT_TRUE(harness_.engine().AllocateStaging(100).ok());
  backend_.FailStaging();
  EXPECT_EQ(ReasonOf(harness_.engine().AllocateStaging(100).status()), "OUT_OF_MEMORY");
}

TEST_F(EngineTest, BoundsTheMemoryOfWaitingRequests) {
  EngineHarness harness(&backend_, {.max_staging_bytes = 100});
  Engine& engine = harness.engine();
  absl::StatusOr<StagingBuffer> first = engine.AllocateStaging(60);
  ASSERT_TRUE(first.ok());
  ASSERT_TRUE(engine.AllocateStaging(40).ok());
  const absl::Status refused = engine.AllocateStaging(41).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ReasonOf(refused), "QUEUE_FULL");
  EXPECT_TRUE(GetErrorDetails(refused).retry_after.has_value());
  EXPECT_EQ(harness.metrics().Get().rejected[RejectReason::kQueueFull], 1);
  *first = nullptr;
  EXPECT_TRUE(engine.AllocateStaging(41).ok());
  // Otherwise a large request would never be served.
  EXPECT_TRUE(engine.AllocateStaging(1000).ok());
}

// Threads that each have a session and forks of it, and use the shared arena at once.
TEST_F(EngineTest, ServesManyThreads) {
  constexpr int kThreads = 6;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([this, t] {
      const std::string id = absl::StrCat("s", t), fork = absl::StrCat("f", t);
      Create(id);
      for (int round = 0; round < 5; ++round) {
        for (int i = 0; i < 20; ++i) {
          const int position = round * 20 * 9 + i * 9;
          EXPECT_EQ(AppendOne(Entry(id, {0, 1, 2}, position, 9)).position, position + 9);
        }
        EXPECT_TRUE(harness_.Fork(id, fork).ok());
        QueryBatch batch;
        batch.entries = {QueryOf(id, 0), QueryOf(fork, 2)};
        const absl::StatusOr<AttendAnswer> answer = harness_.Attend(std::move(batch));
        EXPECT_TRUE(answer.ok());
        for (const AttendResult& result : answer->results) {
          EXPECT_EQ(result.position, (round + 1) * 180);
          EXPECT_EQ(result.lse[0], static_cast<float>(result.position));
        }
        EXPECT_EQ(AppendOne(Entry(fork, {0}, (round + 1) * 180, 1)).position,
                  (round + 1) * 180 + 1);
        EXPECT_GT(harness_.engine().memory_use().kv_bytes, 0);
        EXPECT_TRUE(harness_.List("", 100).ok());
        EXPECT_TRUE(harness_.Delete(fork).ok());
      }
      EXPECT_TRUE(harness_.Delete(id).ok());
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(kv_bytes(), 0);
  EXPECT_EQ(harness_.engine().memory_use().dense_bytes, 0);
  EXPECT_EQ(harness_.engine().memory_use().num_sessions, 0);
}

TEST(EngineOpTest, NamesAreDistinct) {
  std::set<std::string> names;
  for (int i = 0; i < kNumEngineOps; ++i) {
    names.emplace(EngineOpName(static_cast<EngineOp>(i)));
  }
  EXPECT_EQ(names.size(), static_cast<size_t>(kNumEngineOps));
  names.clear();
  for (int i = 0; i < kNumRejectReasons; ++i) {
    names.emplace(RejectReasonName(static_cast<RejectReason>(i)));
  }
  EXPECT_EQ(names.size(), static_cast<size_t>(kNumRejectReasons));
}

}  // namespace
}  // namespace kvattend::testing
