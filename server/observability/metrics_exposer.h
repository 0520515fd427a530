// The HTTP endpoint that Prometheus scrapes: GET /metrics.
#ifndef KVATTEND_SERVER_OBSERVABILITY_METRICS_EXPOSER_H_
#define KVATTEND_SERVER_OBSERVABILITY_METRICS_EXPOSER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "prometheus/collectable.h"

namespace prometheus {
class Exposer;
}

namespace kvattend {

class MetricsExposer {
 public:
  // Serves `collectables` on `address`, "host:port" with a numeric host; port 0 takes a free one.
  // UNAVAILABLE where it cannot be listened on.
  static absl::StatusOr<std::unique_ptr<MetricsExposer>> Start(
      const std::string& address,
      std::vector<std::shared_ptr<prometheus::Collectable>> collectables);
  ~MetricsExposer();

  int port() const { return port_; }

 private:
  MetricsExposer(std::unique_ptr<prometheus::Exposer> exposer,
                 std::vector<std::shared_ptr<prometheus::Collectable>> collectables,
                 std::string address, int port);

  // The exposer refers to them weakly.
  const std::vector<std::shared_ptr<prometheus::Collectable>> collectables_;
  std::unique_ptr<prometheus::Exposer> exposer_;
  const std::string address_;
  const int port_;
};

}  // namespace kvattend

#endif  // KVATTEND_SERVER_OBSERVABILITY_METRICS_EXPOSER_H_
