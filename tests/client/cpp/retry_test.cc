#include "client/cpp/retry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/cord.h"
#include "google/rpc/error_details.pb.h"
#include "tests/client/cpp/test_server.h"

namespace kvattend::client {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr RetryOptions kOptions = {.max_attempts = 6,
                                   .initial_backoff = absl::Milliseconds(100),
                                   .max_backoff = absl::Milliseconds(500),
                                   .multiplier = 2.0};

// Runs an attempt that is UNAVAILABLE `failures` times, then OK.
absl::Status RunFailing(int failures, FakeRetryEnvironment& environment, absl::Time deadline,
                        int* attempts) {
  *attempts = 0;
  return CallWithRetry(kOptions, environment, deadline, [&] {
    return ++*attempts <= failures ? absl::UnavailableError("not yet") : absl::OkStatus();
  });
}

TEST(RetryTest, SucceedsAtOnceWithoutSleeping) {
  FakeRetryEnvironment environment;
  int attempts = 0;
  EXPECT_TRUE(RunFailing(0, environment, absl::InfiniteFuture(), &attempts).ok());
  EXPECT_EQ(attempts, 1);
  EXPECT_THAT(environment.sleeps, IsEmpty());
}

TEST(RetryTest, BacksOffExponentiallyUpToTheBound) {
  FakeRetryEnvironment environment;
  environment.random = 0;  // the lower half of each interval begins: half of the backoff
  int attempts = 0;
  EXPECT_TRUE(RunFailing(5, environment, absl::InfiniteFuture(), &attempts).ok());
  EXPECT_EQ(attempts, 6);
  EXPECT_THAT(environment.sleeps,
              ElementsAre(absl::Milliseconds(50), absl::Milliseconds(100), absl::Milliseconds(200),
                          absl::Milliseconds(250), absl::Milliseconds(250)));
}

TEST(RetryTest, JitterFillsTheUpperHalf) {
  FakeRetryEnvironment environment;
  environment.random = 0.5;
  int attempts = 0;
  EXPECT_TRUE(RunFailing(2, environment, absl::InfiniteFuture(), &attempts).ok());
  EXPECT_THAT(environment.sleeps, ElementsAre(absl::Milliseconds(75), absl::Milliseconds(150)));
}

TEST(RetryTest, GivesUpAfterTheLastAttempt) {
  FakeRetryEnvironment environment;
  int attempts = 0;
  EXPECT_TRUE(absl::IsUnavailable(RunFailing(100, environment, absl::InfiniteFuture(), &attempts)));
  EXPECT_EQ(attempts, 6);
  EXPECT_EQ(environment.sleeps.size(), 5u);
}

TEST(RetryTest, NeverSleepsPastTheDeadline) {
  FakeRetryEnvironment environment;
  const absl::Time deadline = environment.now + absl::Milliseconds(160);
  int attempts = 0;
  // Waits of 50 and 100 ms fit; the next, of 200 ms, does not.
  EXPECT_TRUE(absl::IsUnavailable(RunFailing(100, environment, deadline, &attempts)));
  EXPECT_EQ(attempts, 3);
  EXPECT_LT(environment.now, deadline);
}

TEST(RetryTest, OtherErrorsAreFinal) {
  for (const absl::Status& error :
       {absl::AbortedError(""), absl::DeadlineExceededError(""), absl::ResourceExhaustedError(""),
        absl::InternalError(""), absl::InvalidArgumentError("")}) {
    FakeRetryEnvironment environment;
    int attempts = 0;
    const absl::Status status = CallWithRetry(kOptions, environment, absl::InfiniteFuture(), [&] {
      ++attempts;
      return error;
    });
    EXPECT_EQ(status, error);
    EXPECT_EQ(attempts, 1);
  }
}

TEST(RetryTest, WaitsAsLongAsTheServerAsks) {
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(3);
  absl::Status busy = absl::UnavailableError("busy");
  busy.SetPayload("type.googleapis.com/google.rpc.RetryInfo",
                  absl::Cord(retry.SerializeAsString()));
  FakeRetryEnvironment environment;
  int attempts = 0;
  const auto attempt = [&] { return ++attempts == 1 ? busy : absl::OkStatus(); };
  EXPECT_TRUE(CallWithRetry(kOptions, environment, absl::InfiniteFuture(), attempt).ok());
  EXPECT_THAT(environment.sleeps, ElementsAre(absl::Seconds(3)));

  // Not where that would be past the deadline.
  attempts = 0;
  EXPECT_EQ(CallWithRetry(kOptions, environment, environment.now + absl::Seconds(3), attempt),
            busy);
  EXPECT_EQ(attempts, 1);
}

}  // namespace
}  // namespace kvattend::client
