#include "server/observability/logger.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "spdlog/logger.h"
#include "spdlog/pattern_formatter.h"
#include "spdlog/sinks/stdout_sinks.h"

namespace kvattend {
namespace {

// Times are UTC with milliseconds, as RFC 3339 writes them.
constexpr char kTextPattern[] = "%Y-%m-%dT%H:%M:%S.%eZ %l %v";
constexpr char kJsonPattern[] = R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v})";

// In quotes. JSON knows fewer escapes than C, and only these are needed for one printable line.
std::string JsonString(absl::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (absl::ascii_isprint(static_cast<unsigned char>(c))) {
      quoted += c;
    } else {
      absl::StrAppendFormat(&quoted, "\\u%04x", static_cast<unsigned char>(c));
    }
  }
  quoted += '"';
  return quoted;
}

// As it is where it cannot be misread, else in quotes.
std::string TextValue(absl::string_view text) {
  const bool plain = !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isgraph(static_cast<unsigned char>(c)) && c != '"' && c != '=' && c != '\\';
  });
  return plain ? std::string(text) : absl::StrCat("\"", absl::CHexEscape(text), "\"");
}

std::unique_ptr<spdlog::logger> MakeLogger(LogFormat format, spdlog::level::level_enum level,
                                           spdlog::sink_ptr sink) {
  auto logger = std::make_unique<spdlog::logger>("kvattend", std::move(sink));
  logger->set_formatter(std::make_unique<spdlog::pattern_formatter>(
      format == LogFormat::kJson ? kJsonPattern : kTextPattern, spdlog::pattern_time_type::utc));
  logger->set_level(level);
  logger->flush_on(spdlog::level::info);
  return logger;
}

}  // namespace

absl::StatusOr<LogFormat> ParseLogFormat(absl::string_view name) {
  if (name == "text") return LogFormat::kText;
  if (name == "json") return LogFormat::kJson;
  return absl::InvalidArgumentError(absl::StrCat("expected text or json, found \"", name, "\""));
}

absl::StatusOr<spdlog::level::level_enum> ParseLogLevel(absl::string_view name) {
  if (name == "debug") return spdlog::level::debug;
  if (name == "info") return spdlog::level::info;
  if (name == "warning") return spdlog::level::warn;
  if (name == "error") return spdlog::level::err;
  if (name == "off") return spdlog::level::off;
  return absl::InvalidArgumentError(
      absl::StrCat("expected debug, info, warning, error or off, found \"", name, "\""));
}

LogField::LogField(absl::string_view key, int64_t number)
    : key(key), value(absl::StrCat(number)), is_number(true) {}

LogField::LogField(absl::string_view key, double number)
    : key(key), value(absl::StrCat(number)), is_number(std::isfinite(number)) {}

std::string FormatLogLine(LogFormat format, absl::string_view message,
                          absl::Span<const LogField> fields) {
  const bool json = format == LogFormat::kJson;
  std::string line =
      json ? absl::StrCat("\"message\":", JsonString(message)) : absl::CHexEscape(message);
  for (const LogField& field : fields) {
    if (json) {
      absl::StrAppend(&line, ",\"", field.key,
                      "\":", field.is_number ? field.value : JsonString(field.value));
    } else {
      absl::StrAppend(&line, " ", field.key, "=", TextValue(field.value));
    }
  }
  return line;
}

Logger::Logger(LogFormat format, spdlog::level::level_enum level, spdlog::sink_ptr sink)
    : format_(format), logger_(MakeLogger(format, level, std::move(sink))) {}

Logger::Logger(LogFormat format, spdlog::level::level_enum level)
    : Logger(format, level, std::make_shared<spdlog::sinks::stderr_sink_mt>()) {}

Logger::~Logger() = default;

bool Logger::ShouldLog(spdlog::level::level_enum level) const { return logger_->should_log(level); }

void Logger::Log(spdlog::level::level_enum level, absl::string_view message,
                 absl::Span<const LogField> fields) {
  if (!ShouldLog(level)) return;
  const std::string line = FormatLogLine(format_, message, fields);
  logger_->log(level, spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace kvattend
