// The time, by injection, so that tests own it.
#ifndef KVATTEND_SERVER_BASE_CLOCK_H_
#define KVATTEND_SERVER_BASE_CLOCK_H_

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace kvattend {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() = 0;
};

class SystemClock final : public Clock {
 public:
  absl::Time Now() override { return absl::Now(); }
};

}  // namespace kvattend

#endif  // KVATTEND_SERVER_BASE_CLOCK_H_
