// How a client talks to its server.
#ifndef KVATTEND_CLIENT_CPP_CLIENT_OPTIONS_H_
#define KVATTEND_CLIENT_CPP_CLIENT_OPTIONS_H_

#include <memory>
#include <optional>

#include "absl/time/time.h"
#include "client/cpp/retry.h"

namespace grpc {
class ChannelCredentials;
}

namespace kvattend::client {

struct ClientOptions {
  // How long a call may take, waits and retries included, unless its CallOptions say otherwise.
  absl::Duration timeout = absl::Seconds(60);
  RetryOptions retry;
  // Sends `x-kvattend-shard` with every call on a session: for a proxy that routes by it. Batched
  // calls are then split by shard.
  bool send_shard = false;
  // Null: no encryption.
  std::shared_ptr<grpc::ChannelCredentials> credentials;
  // Clock, sleep and chance of retries; null: the system's. For tests.
  std::shared_ptr<RetryEnvironment> environment;
};

struct CallOptions {
  // ClientOptions::timeout when unset. A function that makes several calls (a long append) is under
  // one timeout as a whole.
  std::optional<absl::Duration> timeout;
};

}  // namespace kvattend::client

#endif  // KVATTEND_CLIENT_CPP_CLIENT_OPTIONS_H_
