#include "server/observability/device_metrics.h"

#include <cstdint>
#include <string>
#include <utility>

namespace kvattend {
namespace {

prometheus::MetricFamily Gauge(std::string name, std::string help, uint64_t value) {
  prometheus::ClientMetric metric;
  metric.gauge.value = static_cast<double>(value);
  prometheus::MetricFamily family;
  family.name = std::move(name);
  family.help = std::move(help);
  family.type = prometheus::MetricType::Gauge;
  family.metric.push_back(std::move(metric));
  return family;
}

}  // namespace

std::vector<prometheus::MetricFamily> DeviceMetrics::Collect() const {
  const DeviceMemory memory = backend_.device_memory();
  return {Gauge("kvattend_gpu_memory_used_bytes", "GPU memory in use, by all processes.",
                memory.used_bytes),
          Gauge("kvattend_gpu_memory_total_bytes", "GPU memory there is; 0 without a GPU.",
                memory.total_bytes)};
}

}  // namespace kvattend
