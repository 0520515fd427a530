#include "server/observability/call_monitor.h"

#include <string>
#include <vector>

namespace kvattend {

void CallMonitor::CallFinished(const CallRecord& record) {
  metrics_.CallFinished(record.method, record.status.code(), record.duration);

  const bool quiet =
      record.status.ok() && record.num_failed_items == 0 && IsDataPlane(record.method);
  const auto level = quiet ? spdlog::level::debug : spdlog::level::info;
  if (!logger_.ShouldLog(level)) return;
  std::vector<LogField> fields = {
      {"request_id", record.request_id},
      {"method", MethodName(record.method)},
      {"status", absl::StatusCodeToString(record.status.code())},
      {"duration_ms", absl::ToDoubleMilliseconds(record.duration)},
      {"peer", record.peer},
  };
  if (!record.traceparent.empty()) fields.emplace_back("traceparent", record.traceparent);
  if (record.num_items > 0) {
    fields.emplace_back("items", record.num_items);
    fields.emplace_back("failed_items", record.num_failed_items);
  }
  if (!record.status.ok()) {
    fields.emplace_back("reason", record.reason);
    fields.emplace_back("error", record.status.message());
  }
  logger_.Log(level, "call", fields);
}

}  // namespace kvattend
