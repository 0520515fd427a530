#include "client/cli/connect.h"

#include "absl/strings/str_cat.h"

namespace kvattend::cli {

absl::StatusOr<std::unique_ptr<client::Client>> Connect(const Arguments& arguments) {
  const auto timeout = arguments.GetDuration("timeout");
  if (!timeout.ok()) return timeout.status();
  const std::string server = arguments.Get("server");
  auto connected = client::Client::Connect(server, {.timeout = *timeout});
  if (absl::IsUnavailable(connected.status()) || absl::IsDeadlineExceeded(connected.status())) {
    return absl::UnavailableError(
        absl::StrCat("no server at ", server, ": ", connected.status().message()));
  }
  return connected;
}

}  // namespace kvattend::cli
