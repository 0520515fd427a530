// When a failed call is tried again.
//
// Only UNAVAILABLE is retried: it says that the server did not do the work (queue full, draining,
// not reachable, device fault). A connection that broke during a call is UNAVAILABLE too, so every
// call of this library is made such that doing it twice is harmless: appends carry the position
// they expect.
#ifndef KVATTEND_CLIENT_CPP_RETRY_H_
#define KVATTEND_CLIENT_CPP_RETRY_H_

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"

namespace kvattend::client {

// The wait before attempt n + 1 is drawn uniformly from the upper half of
// [0, min(max_backoff, initial_backoff * multiplier^(n - 1))]; where the server asked for a longer
// one (RetryInfo), it is that.
struct RetryOptions {
  // Of a call, the first one included; 1: never retry.
  int max_attempts = 6;
  absl::Duration initial_backoff = absl::Milliseconds(50);
  absl::Duration max_backoff = absl::Seconds(5);
  double multiplier = 2.0;
};

// Time and chance, by injection, so that tests own them. Thread-safe.
class RetryEnvironment {
 public:
  virtual ~RetryEnvironment() = default;
  virtual absl::Time Now() = 0;
  virtual void Sleep(absl::Duration duration) = 0;
  // Uniform in [0, 1).
  virtual double Random() = 0;
};

class SystemRetryEnvironment final : public RetryEnvironment {
 public:
  absl::Time Now() override;
  void Sleep(absl::Duration duration) override;
  double Random() override;
};

// Runs `attempt` until it returns anything but UNAVAILABLE, attempts are used up, or the next wait
// would reach `deadline`; returns the last attempt's status. `attempt` runs at least once.
absl::Status CallWithRetry(const RetryOptions& options, RetryEnvironment& environment,
                           absl::Time deadline, absl::FunctionRef<absl::Status()> attempt);

}  // namespace kvattend::client

#endif  // KVATTEND_CLIENT_CPP_RETRY_H_
