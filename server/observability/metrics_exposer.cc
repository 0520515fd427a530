#include "server/observability/metrics_exposer.h"

#include <exception>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "prometheus/exposer.h"

namespace kvattend {

absl::StatusOr<std::unique_ptr<MetricsExposer>> MetricsExposer::Start(
    const std::string& address,
    std::vector<std::shared_ptr<prometheus::Collectable>> collectables) {
  // The library throws where the address cannot be had; exceptions end here.
  try {
    auto exposer = std::make_unique<prometheus::Exposer>(address, /*num_threads=*/2);
    for (const auto& collectable : collectables) exposer->RegisterCollectable(collectable);
    const int port = exposer->GetListeningPorts().at(0);
    return std::unique_ptr<MetricsExposer>(
        new MetricsExposer(std::move(exposer), std::move(collectables), port));
  } catch (const std::exception& error) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", address, " for metrics (", error.what(),
                     "): is the port in use, or the address not this machine's?"));
  }
}

MetricsExposer::MetricsExposer(std::unique_ptr<prometheus::Exposer> exposer,
                               std::vector<std::shared_ptr<prometheus::Collectable>> collectables,
                               int port)
    : collectables_(std::move(collectables)), exposer_(std::move(exposer)), port_(port) {}

MetricsExposer::~MetricsExposer() = default;

}  // namespace kvattend
