// Makes metrics and a log line of every call.
//
// Calls that fail and all of the control plane are logged at info, the data plane's successes at
// debug.
#ifndef KVATTEND_SERVER_OBSERVABILITY_CALL_MONITOR_H_
#define KVATTEND_SERVER_OBSERVABILITY_CALL_MONITOR_H_

#include "server/observability/logger.h"
#include "server/observability/prometheus_metrics.h"
#include "server/rpc/call_observer.h"

namespace kvattend {

// Thread-safe. The metrics and the logger outlive it.
class CallMonitor final : public CallObserver {
 public:
  CallMonitor(PrometheusMetrics* metrics, Logger* logger) : metrics_(*metrics), logger_(*logger) {}

  void CallStarted(Method method) override { metrics_.CallStarted(method); }
  void CallFinished(const CallRecord& record) override;

 private:
  PrometheusMetrics& metrics_;
  Logger& logger_;
};

}  // namespace kvattend

#endif  // KVATTEND_SERVER_OBSERVABILITY_CALL_MONITOR_H_
