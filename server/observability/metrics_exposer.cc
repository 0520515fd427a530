#include "server/observability/metrics_exposer.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <exception>
#include <future>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "prometheus/exposer.h"

namespace kvattend {
namespace {

// Connects to the host of `address`, "host:port", at `port`, and hangs up.
void Connect(const std::string& address, int port) {
  std::string host = address.substr(0, address.rfind(':'));
  if (host.front() == '[') host = host.substr(1, host.size() - 2);
  addrinfo hints = {};
  hints.ai_flags = AI_NUMERICHOST;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), absl::StrCat(port).c_str(), &hints, &found) != 0) return;
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> target(found, freeaddrinfo);
  const int socket_fd = socket(target->ai_family, target->ai_socktype | SOCK_CLOEXEC, 0);
  if (socket_fd < 0) return;
  // Whether it succeeds does not matter: the acceptor may have stopped.
  (void)connect(socket_fd, target->ai_addr, target->ai_addrlen);
  close(socket_fd);
}

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsExposer>> MetricsExposer::Start(
    const std::string& address,
    std::vector<std::shared_ptr<prometheus::Collectable>> collectables) {
  // The library throws where the address cannot be had; exceptions end here.
  try {
    auto exposer = std::make_unique<prometheus::Exposer>(address, /*num_threads=*/2);
    for (const auto& collectable : collectables) exposer->RegisterCollectable(collectable);
    const int port = exposer->GetListeningPorts().at(0);
    return std::unique_ptr<MetricsExposer>(
        new MetricsExposer(std::move(exposer), std::move(collectables), address, port));
  } catch (const std::exception& error) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", address, " for metrics (", error.what(),
                     "): is the port in use, or the address not this machine's?"));
  }
}

MetricsExposer::MetricsExposer(std::unique_ptr<prometheus::Exposer> exposer,
                               std::vector<std::shared_ptr<prometheus::Collectable>> collectables,
                               std::string address, int port)
    : collectables_(std::move(collectables)),
      exposer_(std::move(exposer)),
      address_(std::move(address)),
      port_(port) {}

// The library's acceptor sees that it must stop when a connection comes, or only after its poll of
// two seconds. So connections come until it has stopped.
MetricsExposer::~MetricsExposer() {
  std::promise<void> stopped;
  std::thread stop([this, &stopped] {
    exposer_ = nullptr;
    stopped.set_value();
  });
  const std::future<void> done = stopped.get_future();
  do {
    Connect(address_, port_);
  } while (done.wait_for(std::chrono::milliseconds(1)) == std::future_status::timeout);
  stop.join();
}

}  // namespace kvattend
