#include "client/cpp/retry.h"

#include <algorithm>

#include "absl/random/random.h"
#include "absl/time/clock.h"
#include "client/cpp/errors.h"

namespace kvattend::client {

absl::Time SystemRetryEnvironment::Now() { return absl::Now(); }

void SystemRetryEnvironment::Sleep(absl::Duration duration) { absl::SleepFor(duration); }

double SystemRetryEnvironment::Random() {
  // Made anew: a generator is not thread-safe, and retries are rare.
  absl::BitGen generator;
  return absl::Uniform(generator, 0.0, 1.0);
}

absl::Status CallWithRetry(const RetryOptions& options, RetryEnvironment& environment,
                           absl::Time deadline, absl::FunctionRef<absl::Status()> attempt) {
  absl::Duration backoff = std::min(options.initial_backoff, options.max_backoff);
  for (int attempts = 1;; ++attempts) {
    absl::Status status = attempt();
    if (status.code() != absl::StatusCode::kUnavailable || attempts >= options.max_attempts) {
      return status;
    }
    const absl::Duration asked = GetErrorDetails(status).retry_after.value_or(absl::ZeroDuration());
    const absl::Duration wait = std::max(asked, backoff * (0.5 + 0.5 * environment.Random()));
    if (environment.Now() + wait >= deadline) return status;
    environment.Sleep(wait);
    backoff = std::min(backoff * options.multiplier, options.max_backoff);
  }
}

}  // namespace kvattend::client
