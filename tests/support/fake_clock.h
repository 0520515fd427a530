// A clock that stands still until a test moves it.
#ifndef KVATTEND_TESTS_SUPPORT_FAKE_CLOCK_H_
#define KVATTEND_TESTS_SUPPORT_FAKE_CLOCK_H_

#include "absl/base/thread_annotations.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"

namespace kvattend::testing {

// Thread-safe.
class FakeClock final : public Clock {
 public:
  absl::Time Now() override {
    MutexLock lock(&mutex_);
    return now_;
  }
  void Advance(absl::Duration duration) {
    MutexLock lock(&mutex_);
    now_ += duration;
  }

 private:
  Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_) = absl::FromUnixSeconds(1'000'000'000);
};

}  // namespace kvattend::testing

#endif  // KVATTEND_TESTS_SUPPORT_FAKE_CLOCK_H_
