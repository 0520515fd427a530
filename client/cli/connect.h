// The connection that the common options ask for.
#ifndef KVATTEND_CLIENT_CLI_CONNECT_H_
#define KVATTEND_CLIENT_CLI_CONNECT_H_

#include <memory>

#include "absl/status/statusor.h"
#include "client/cli/arguments.h"
#include "client/cpp/client.h"

namespace kvattend::cli {

// Uses --server and --timeout. UNAVAILABLE where no server answers in time.
absl::StatusOr<std::unique_ptr<client::Client>> Connect(const Arguments& arguments);

}  // namespace kvattend::cli

#endif  // KVATTEND_CLIENT_CLI_CONNECT_H_
