// Log lines with fields, as text or as JSON lines, over spdlog.
//
// Lines never hold tensor data, credentials or unescaped input of callers.
#ifndef KVATTEND_SERVER_OBSERVABILITY_LOGGER_H_
#define KVATTEND_SERVER_OBSERVABILITY_LOGGER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "spdlog/common.h"

namespace spdlog {
class logger;
}

namespace kvattend {

enum class LogFormat { kText, kJson };

// "text" or "json". INVALID_ARGUMENT otherwise.
absl::StatusOr<LogFormat> ParseLogFormat(absl::string_view name);
// "debug", "info", "warning", "error" or "off". INVALID_ARGUMENT otherwise.
absl::StatusOr<spdlog::level::level_enum> ParseLogLevel(absl::string_view name);

struct LogField {
  LogField(absl::string_view key, absl::string_view value) : key(key), value(value) {}
  LogField(absl::string_view key, const std::string& value) : key(key), value(value) {}
  LogField(absl::string_view key, const char* value) : key(key), value(value) {}
  LogField(absl::string_view key, int64_t number);
  LogField(absl::string_view key, int number) : LogField(key, int64_t{number}) {}
  LogField(absl::string_view key, double number);

  // A name of [a-z_].
  absl::string_view key;
  std::string value;
  // Numbers need no quotes.
  bool is_number = false;
};

// The line without its time and level. Text: `message key=value key="a value"`; JSON: the members
// `"message":"...","key":"value"`, without braces. One line of printable ASCII, whatever is in it.
std::string FormatLogLine(LogFormat format, absl::string_view message,
                          absl::Span<const LogField> fields);

// Thread-safe.
class Logger {
 public:
  // Writes lines of `level` and above.
  Logger(LogFormat format, spdlog::level::level_enum level, spdlog::sink_ptr sink);
  // To stderr.
  Logger(LogFormat format, spdlog::level::level_enum level);
  ~Logger();

  bool ShouldLog(spdlog::level::level_enum level) const;
  void Log(spdlog::level::level_enum level, absl::string_view message,
           absl::Span<const LogField> fields = {});
  void Info(absl::string_view message, absl::Span<const LogField> fields = {}) {
    Log(spdlog::level::info, message, fields);
  }
  void Warning(absl::string_view message, absl::Span<const LogField> fields = {}) {
    Log(spdlog::level::warn, message, fields);
  }

 private:
  const LogFormat format_;
  const std::unique_ptr<spdlog::logger> logger_;
};

}  // namespace kvattend

#endif  // KVATTEND_SERVER_OBSERVABILITY_LOGGER_H_
