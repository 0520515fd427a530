// A plain HTTP GET, for the server's metrics.
#ifndef KVATTEND_CLIENT_CLI_HTTP_GET_H_
#define KVATTEND_CLIENT_CLI_HTTP_GET_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace kvattend::cli {

// The body of `url`. UNAVAILABLE where nothing answers within `timeout`; INTERNAL for an answer
// that is not 200.
absl::StatusOr<std::string> HttpGet(const std::string& url, absl::Duration timeout);

}  // namespace kvattend::cli

#endif  // KVATTEND_CLIENT_CLI_HTTP_GET_H_
