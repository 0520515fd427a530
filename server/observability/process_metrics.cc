#include "server/observability/process_metrics.h"

#include <dirent.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace kvattend {
namespace {

std::string ReadFile(const char* path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

// How many descriptors are open, without the one that counts them.
std::optional<int64_t> CountOpenFiles() {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir("/proc/self/fd"), closedir);
  if (directory == nullptr) return std::nullopt;
  int64_t count = 0;
  while (const dirent* entry = readdir(directory.get())) {
    if (entry->d_name[0] != '.') ++count;
  }
  return count - 1;
}

// The line that begins with `prefix`, without it.
std::optional<absl::string_view> FindLine(absl::string_view text, absl::string_view prefix) {
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::ConsumePrefix(&line, prefix)) return line;
  }
  return std::nullopt;
}

prometheus::MetricFamily MakeFamily(const char* name, const char* help, prometheus::MetricType type,
                                    double value) {
  prometheus::ClientMetric metric;
  if (type == prometheus::MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  return {.name = name, .help = help, .type = type, .metric = {metric}};
}

}  // namespace

std::optional<ProcessStat> ParseProcessStat(absl::string_view text) {
  // "pid (name) state ppid ...": the name may hold anything, so count fields from its end.
  const size_t name_end = text.rfind(')');
  if (name_end == absl::string_view::npos) return std::nullopt;
  const std::vector<absl::string_view> fields =
      absl::StrSplit(text.substr(name_end + 1), ' ', absl::SkipWhitespace());
  // proc(5) numbers fields from 1, the state being 3: utime 14, stime 15, starttime 22, vsize 23,
  // rss 24.
  constexpr size_t kFirstField = 3;
  ProcessStat stat;
  int64_t user_ticks = 0;
  int64_t system_ticks = 0;
  if (fields.size() <= 24 - kFirstField ||
      !absl::SimpleAtoi(fields[14 - kFirstField], &user_ticks) ||
      !absl::SimpleAtoi(fields[15 - kFirstField], &system_ticks) ||
      !absl::SimpleAtoi(fields[22 - kFirstField], &stat.start_ticks) ||
      !absl::SimpleAtoi(fields[23 - kFirstField], &stat.virtual_bytes) ||
      !absl::SimpleAtoi(fields[24 - kFirstField], &stat.resident_pages)) {
    return std::nullopt;
  }
  stat.cpu_ticks = user_ticks + system_ticks;
  return stat;
}

std::optional<int64_t> ParseMaxOpenFiles(absl::string_view text) {
  const std::optional<absl::string_view> line = FindLine(text, "Max open files");
  if (!line.has_value()) return std::nullopt;
  const std::vector<absl::string_view> fields = absl::StrSplit(*line, ' ', absl::SkipWhitespace());
  int64_t limit = 0;
  if (fields.empty() || !absl::SimpleAtoi(fields[0], &limit)) return std::nullopt;
  return limit;
}

std::optional<int64_t> ParseBootTime(absl::string_view text) {
  const std::optional<absl::string_view> line = FindLine(text, "btime ");
  int64_t seconds = 0;
  if (!line.has_value() || !absl::SimpleAtoi(*line, &seconds)) return std::nullopt;
  return seconds;
}

std::vector<prometheus::MetricFamily> ProcessMetrics::Collect() const {
  using prometheus::MetricType;
  std::vector<prometheus::MetricFamily> families;
  const auto ticks_per_second = static_cast<double>(sysconf(_SC_CLK_TCK));
  if (const auto stat = ParseProcessStat(ReadFile("/proc/self/stat")); stat.has_value()) {
    families.push_back(MakeFamily("process_cpu_seconds_total", "User and system CPU time spent.",
                                  MetricType::Counter,
                                  static_cast<double>(stat->cpu_ticks) / ticks_per_second));
    families.push_back(MakeFamily("process_resident_memory_bytes", "Resident memory size.",
                                  MetricType::Gauge,
                                  static_cast<double>(stat->resident_pages * getpagesize())));
    families.push_back(MakeFamily("process_virtual_memory_bytes", "Virtual memory size.",
                                  MetricType::Gauge, static_cast<double>(stat->virtual_bytes)));
    if (const auto boot = ParseBootTime(ReadFile("/proc/stat")); boot.has_value()) {
      families.push_back(MakeFamily(
          "process_start_time_seconds", "Start time of the process since the epoch.",
          MetricType::Gauge,
          static_cast<double>(*boot) + static_cast<double>(stat->start_ticks) / ticks_per_second));
    }
  }
  if (const auto open_files = CountOpenFiles(); open_files.has_value()) {
    families.push_back(MakeFamily("process_open_fds", "Open file descriptors.", MetricType::Gauge,
                                  static_cast<double>(*open_files)));
  }
  if (const auto limit = ParseMaxOpenFiles(ReadFile("/proc/self/limits")); limit.has_value()) {
    families.push_back(MakeFamily("process_max_fds", "Most file descriptors that may be open.",
                                  MetricType::Gauge, static_cast<double>(*limit)));
  }
  return families;
}

}  // namespace kvattend
