// What the backend's device says of its memory, read at each scrape.
#ifndef KVATTEND_SERVER_OBSERVABILITY_DEVICE_METRICS_H_
#define KVATTEND_SERVER_OBSERVABILITY_DEVICE_METRICS_H_

#include <vector>

#include "kernels/backend.h"
#include "prometheus/collectable.h"
#include "prometheus/metric_family.h"

namespace kvattend {

// Thread-safe. kvattend_gpu_memory_used_bytes (by all processes) and
// kvattend_gpu_memory_total_bytes; 0 without a GPU.
class DeviceMetrics final : public prometheus::Collectable {
 public:
  // The backend outlives the object.
  explicit DeviceMetrics(const Backend* backend) : backend_(*backend) {}

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const Backend& backend_;
};

}  // namespace kvattend

#endif  // KVATTEND_SERVER_OBSERVABILITY_DEVICE_METRICS_H_
