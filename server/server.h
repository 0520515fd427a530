// The composition root: a backend, an engine over it, the gRPC services over that, and metrics.
//
// The const methods are thread-safe; Shutdown and destruction are one thread's. A process may have
// several servers.
#ifndef KVATTEND_SERVER_SERVER_H_
#define KVATTEND_SERVER_SERVER_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/observability/logger.h"
#include "server/options.h"

namespace kvattend {

class Server {
 public:
  // Takes the memory, binds the ports and serves. UNIMPLEMENTED for a device that this build lacks,
  // RESOURCE_EXHAUSTED where the memory cannot be had, UNAVAILABLE where an address cannot.
  // The logger outlives the server. When the device has failed for good, the server says
  // NOT_SERVING and calls `on_device_fault`, on a thread of its own that must not wait for
  // Shutdown: only a new process can use the device again.
  static absl::StatusOr<std::unique_ptr<Server>> Create(const ServerOptions& options,
                                                        Logger* logger,
                                                        std::function<void()> on_device_fault = {});
  // Shuts down first.
  ~Server();

  // The ports that are listened on.
  int grpc_port() const;
  int metrics_port() const;

  // Says NOT_SERVING, refuses new operations, runs those that wait, then closes connections; what
  // clients keep open (a health Watch) is cancelled after `grace`. Idempotent; blocks.
  void Shutdown(absl::Duration grace = absl::Seconds(2));

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// "0.1.0", and the commit it was built from.
const char* ServerVersion();
const char* ServerCommit();

// Writes "grpc=PORT" and "metrics=PORT" lines to `path`, all at once: readers find nothing or both.
absl::Status WritePortFile(const std::string& path, int grpc_port, int metrics_port);

}  // namespace kvattend

#endif  // KVATTEND_SERVER_SERVER_H_
