#include "server/options.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "kernels/base/status_macros.h"

namespace kvattend {
namespace {

absl::Status Unexpected(absl::string_view expected, absl::string_view found) {
  return absl::InvalidArgumentError(
      absl::StrCat("expected ", expected, ", found \"", absl::CHexEscape(found), "\""));
}

absl::StatusOr<int64_t> ParseInteger(absl::string_view text, int64_t least, int64_t most) {
  int64_t value = 0;
  if (absl::SimpleAtoi(text, &value) && least <= value && value <= most) return value;
  return Unexpected(absl::StrCat("a number from ", least, " to ", most), text);
}

absl::StatusOr<bool> ParseBool(absl::string_view text) {
  bool value = false;
  if (absl::SimpleAtob(text, &value)) return value;
  return Unexpected("true or false", text);
}

absl::StatusOr<DeviceChoice> ParseDevice(absl::string_view text) {
  if (text == "auto") return DeviceChoice::kAuto;
  if (text == "cpu") return DeviceChoice::kCpu;
  if (text == "cuda") return DeviceChoice::kCuda;
  return Unexpected("auto, cpu or cuda", text);
}

absl::StatusOr<std::string> ParseListen(absl::string_view text) {
  KVATTEND_ASSIGN_OR_RETURN(const Address address, ParseAddress(text));
  return address.ToString();
}

// What K, M, G or T before an optional "B", "i" or "iB" multiplies with; 0 if it is something else.
int64_t SuffixFactor(absl::string_view suffix) {
  if (suffix.empty() || suffix == "B") return 1;
  const size_t power = absl::string_view("KMGT").find(suffix[0]);
  if (power == absl::string_view::npos) return 0;
  suffix.remove_prefix(1);
  const bool binary = absl::ConsumePrefix(&suffix, "i");
  if (!suffix.empty() && suffix != "B") return 0;
  int64_t factor = 1;
  for (size_t i = 0; i <= power; ++i) factor *= binary ? 1024 : 1000;
  return factor;
}

// Reads one option into its place.
absl::Status SetOption(absl::string_view name, absl::string_view text, ServerOptions* options) {
  constexpr int64_t kMaxInt = std::numeric_limits<int>::max();
  if (name == "listen") {
    KVATTEND_ASSIGN_OR_RETURN(options->listen, ParseListen(text));
  } else if (name == "metrics_listen") {
    KVATTEND_ASSIGN_OR_RETURN(options->metrics_listen, ParseListen(text));
  } else if (name == "insecure") {
    KVATTEND_RETURN_IF_ERROR(ParseBool(text).status());
  } else if (name == "device") {
    KVATTEND_ASSIGN_OR_RETURN(options->device, ParseDevice(text));
  } else if (name == "kv_memory") {
    KVATTEND_ASSIGN_OR_RETURN(options->kv_memory, ParseMemorySize(text));
  } else if (name == "threads") {
    KVATTEND_ASSIGN_OR_RETURN(options->num_threads, ParseInteger(text, 0, 1024));
  } else if (name == "max_message_mb") {
    // gRPC counts a message's bytes in an int.
    KVATTEND_ASSIGN_OR_RETURN(const int64_t megabytes, ParseInteger(text, 1, 2047));
    options->max_message_bytes = megabytes << 20;
  } else if (name == "max_queue_depth") {
    KVATTEND_ASSIGN_OR_RETURN(options->max_queue_depth, ParseInteger(text, 1, kMaxInt));
  } else if (name == "max_sessions") {
    KVATTEND_ASSIGN_OR_RETURN(options->max_sessions, ParseInteger(text, 1, kMaxInt));
  } else if (name == "log_level") {
    KVATTEND_ASSIGN_OR_RETURN(options->log_level, ParseLogLevel(text));
  } else if (name == "log_format") {
    KVATTEND_ASSIGN_OR_RETURN(options->log_format, ParseLogFormat(text));
  } else if (name == "port_file") {
    options->port_file = std::string(text);
  } else {
    return absl::InvalidArgumentError("there is no such option");
  }
  return absl::OkStatus();
}

}  // namespace

const std::vector<std::string>& ServerOptionNames() {
  static const auto& names = *new std::vector<std::string>{
      "listen",         "metrics_listen",  "insecure",     "device",    "kv_memory",  "threads",
      "max_message_mb", "max_queue_depth", "max_sessions", "log_level", "log_format", "port_file"};
  return names;
}

absl::StatusOr<ServerOptions> ParseServerOptions(const OptionValues& values) {
  ServerOptions options;
  for (const auto& [name, text] : values) {
    if (const absl::Status status = SetOption(name, text, &options); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("--", name, ": ", status.message()));
    }
  }
  KVATTEND_ASSIGN_OR_RETURN(const Address address, ParseAddress(options.listen));
  const auto insecure = values.find("insecure");
  if (!address.is_loopback && (insecure == values.end() || !*ParseBool(insecure->second))) {
    return absl::InvalidArgumentError(
        absl::StrCat("--listen: others can reach ", options.listen,
                     ", and this server has no TLS; say --insecure to allow it (behind a proxy or "
                     "in a trusted network), or listen on 127.0.0.1"));
  }
  return options;
}

std::string EnvironmentName(absl::string_view option) {
  return absl::StrCat("KVATTEND_", absl::AsciiStrToUpper(option));
}

OptionValues OptionsFromEnvironment(const std::function<const char*(const char*)>& get) {
  OptionValues values;
  for (const std::string& name : ServerOptionNames()) {
    if (const char* value = get(EnvironmentName(name).c_str()); value != nullptr) {
      values[name] = value;
    }
  }
  return values;
}

absl::StatusOr<MemorySize> ParseMemorySize(absl::string_view text) {
  constexpr absl::string_view kExpected = "an amount such as 1073741824, 512M, 4GiB or 50%";
  // A slab of the arena.
  constexpr int64_t kMinBytes = int64_t{2} << 20;
  if (absl::string_view percent = text; absl::ConsumeSuffix(&percent, "%")) {
    double value = 0.0;
    if (!absl::SimpleAtod(percent, &value) || !(value > 0.0 && value <= 100.0)) {
      return Unexpected("more than 0 % and at most 100 %", text);
    }
    return MemorySize{.share = value / 100.0};
  }
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  int64_t bytes = 0;
  const int64_t factor = SuffixFactor(text.substr(digits));
  if (factor == 0 || !absl::SimpleAtoi(text.substr(0, digits), &bytes) ||
      __builtin_mul_overflow(bytes, factor, &bytes)) {
    return Unexpected(kExpected, text);
  }
  if (bytes < kMinBytes) return Unexpected("at least 2MiB", text);
  return MemorySize{.bytes = bytes};
}

std::string Address::ToString() const {
  return absl::StrContains(host, ':') ? absl::StrCat("[", host, "]:", port)
                                      : absl::StrCat(host, ":", port);
}

absl::StatusOr<Address> ParseAddress(absl::string_view text) {
  constexpr absl::string_view kExpected =
      "host:port with a numeric host, e.g. 127.0.0.1:50051, [::1]:50051 or 0.0.0.0:50051";
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos) return Unexpected(kExpected, text);
  Address address;
  constexpr int kMaxPort = 65535;
  if (!absl::SimpleAtoi(text.substr(colon + 1), &address.port) || address.port < 0 ||
      address.port > kMaxPort) {
    return Unexpected(kExpected, text);
  }
  absl::string_view host = text.substr(0, colon);
  const bool bracketed = absl::ConsumePrefix(&host, "[") && absl::ConsumeSuffix(&host, "]");
  address.host = host == "localhost" ? "127.0.0.1" : std::string(host);
  in_addr v4 = {};
  in6_addr v6 = {};
  if (!bracketed && inet_pton(AF_INET, address.host.c_str(), &v4) == 1) {
    constexpr uint32_t kLoopbackNet = 127;
    address.is_loopback = ntohl(v4.s_addr) >> 24 == kLoopbackNet;
  } else if (bracketed && inet_pton(AF_INET6, address.host.c_str(), &v6) == 1) {
    address.is_loopback = IN6_IS_ADDR_LOOPBACK(&v6);
  } else {
    return Unexpected(kExpected, text);
  }
  return address;
}

}  // namespace kvattend
