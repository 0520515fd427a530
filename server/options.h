// What the server can be told at its start, by flags or by the environment.
//
// Thread-safe: plain values and pure functions.
#ifndef KVATTEND_SERVER_OPTIONS_H_
#define KVATTEND_SERVER_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/observability/logger.h"

namespace kvattend {

enum class DeviceChoice { kAuto, kCpu, kCuda };

// An amount of memory: bytes, or a share of what the device has.
struct MemorySize {
  int64_t bytes = 0;
  // 0 where `bytes` counts, else up to 1.
  double share = 0.0;
};

struct ServerOptions {
  // "host:port" with a numeric host; port 0 takes a free one.
  std::string listen = "127.0.0.1:50051";
  std::string metrics_listen = "127.0.0.1:9464";
  DeviceChoice device = DeviceChoice::kAuto;
  MemorySize kv_memory = {.bytes = int64_t{1} << 30};
  // Of the CPU backend; 0: as many as there are cores.
  int num_threads = 0;
  int64_t max_message_bytes = int64_t{64} << 20;
  int max_queue_depth = 1024;
  int64_t max_sessions = 100000;
  spdlog::level::level_enum log_level = spdlog::level::info;
  LogFormat log_format = LogFormat::kText;
  // Where the bound ports are written once the server is ready; empty: nowhere.
  std::string port_file;
};

// Options by name ("kv_memory"), as text.
using OptionValues = std::map<std::string, std::string>;

// Every option of ParseServerOptions, by name.
const std::vector<std::string>& ServerOptionNames();

// Reads the values that are given, over the defaults. INVALID_ARGUMENT naming the option, what was
// expected and what was found. A `listen` that others can reach must come with `insecure` = "true",
// since this server has no TLS.
absl::StatusOr<ServerOptions> ParseServerOptions(const OptionValues& values);

// The environment variable of an option: "kv_memory" is KVATTEND_KV_MEMORY.
std::string EnvironmentName(absl::string_view option);

// The options that the environment sets. `get` is getenv.
OptionValues OptionsFromEnvironment(const std::function<const char*(const char*)>& get);

// "1073741824", "64M" and "64MB" (10^6), "64MiB" (2^20), K, G and T alike, or "50%".
absl::StatusOr<MemorySize> ParseMemorySize(absl::string_view text);

// "127.0.0.1:50051", "[::1]:0", "localhost:50051" (taken as 127.0.0.1).
struct Address {
  // Numeric.
  std::string host;
  int port = 0;
  // Whether only this machine reaches it.
  bool is_loopback = false;

  std::string ToString() const;
};
absl::StatusOr<Address> ParseAddress(absl::string_view text);

}  // namespace kvattend

#endif  // KVATTEND_SERVER_OPTIONS_H_
