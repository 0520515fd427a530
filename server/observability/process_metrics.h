// What the operating system knows of this process, read from /proc at each scrape: the standard
// process_* metrics.
#ifndef KVATTEND_SERVER_OBSERVABILITY_PROCESS_METRICS_H_
#define KVATTEND_SERVER_OBSERVABILITY_PROCESS_METRICS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/strings/string_view.h"
#include "prometheus/collectable.h"
#include "prometheus/metric_family.h"

namespace kvattend {

// Of /proc/[pid]/stat.
struct ProcessStat {
  // Clock ticks, user and system.
  int64_t cpu_ticks = 0;
  // Clock ticks after the machine started.
  int64_t start_ticks = 0;
  int64_t virtual_bytes = 0;
  int64_t resident_pages = 0;
};
std::optional<ProcessStat> ParseProcessStat(absl::string_view text);

// The soft limit of "Max open files" in /proc/[pid]/limits.
std::optional<int64_t> ParseMaxOpenFiles(absl::string_view text);

// When the machine started, in seconds since the epoch: "btime" of /proc/stat.
std::optional<int64_t> ParseBootTime(absl::string_view text);

// Thread-safe. Leaves out what cannot be read.
class ProcessMetrics final : public prometheus::Collectable {
 public:
  std::vector<prometheus::MetricFamily> Collect() const override;
};

}  // namespace kvattend

#endif  // KVATTEND_SERVER_OBSERVABILITY_PROCESS_METRICS_H_
