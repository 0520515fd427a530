// All metrics of the server, for Prometheus: what the engine reports, and what becomes of calls.
//
// Every series whose labels are known beforehand exists from the start; of calls those with status
// OK, the others as they first occur. No label tells sessions, requests or layers apart.
#ifndef KVATTEND_SERVER_OBSERVABILITY_PROMETHEUS_METRICS_H_
#define KVATTEND_SERVER_OBSERVABILITY_PROMETHEUS_METRICS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "prometheus/counter.h"
#include "prometheus/family.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"
#include "server/engine/engine_metrics.h"
#include "server/rpc/method.h"

namespace kvattend {

// Thread-safe.
class PrometheusMetrics final : public EngineMetrics {
 public:
  PrometheusMetrics(absl::string_view version, absl::string_view commit, absl::string_view device);

  // What an exposer collects.
  std::shared_ptr<prometheus::Registry> registry() const { return registry_; }

  // Whether the server takes calls.
  void SetReady(bool ready);
  void CallStarted(Method method);
  void CallFinished(Method method, absl::StatusCode code, absl::Duration duration);

  void QueueDepth(int depth) override;
  void QueueWait(EngineOp op, absl::Duration wait) override;
  void KernelTime(EngineOp op, absl::string_view codec, absl::Duration time) override;
  void BatchSize(EngineOp op, int items) override;
  void Rejected(RejectReason reason) override;
  void AppendReplayed() override;
  void TokensAppended(int64_t layer_tokens) override;
  void Compressed(absl::string_view codec, int64_t input_bytes, int64_t output_bytes) override;
  void SessionClosed(SessionCloseReason reason) override;
  void Memory(const MemoryUse& use) override;

 private:
  using Counter = prometheus::Counter;
  using Gauge = prometheus::Gauge;
  using Histogram = prometheus::Histogram;
  struct CompressCounters {
    Counter* input_bytes;
    Counter* output_bytes;
  };

  void AddEngineSeries();
  void AddCodecSeries();
  void AddCallSeries();

  // Everything below belongs to the registry; the maps do not change after construction.
  const std::shared_ptr<prometheus::Registry> registry_;
  Gauge& ready_;
  Gauge& sessions_;
  Gauge& kv_bytes_;
  Gauge& kv_dense_bytes_;
  Gauge& kv_capacity_bytes_;
  Gauge& queue_depth_;
  Counter& sessions_deleted_;
  Counter& tokens_appended_;
  Counter& append_replays_;
  prometheus::Family<Histogram>& call_duration_;
  std::vector<Counter*> calls_started_;  // by Method
  std::vector<Histogram*> calls_ok_;     // by Method
  std::vector<Counter*> rejections_;     // by RejectReason
  std::vector<Histogram*> queue_wait_;   // by EngineOp
  std::vector<Histogram*> batch_size_;   // by EngineOp
  // By EngineOp, then by codec; empty for ops that never reach the backend.
  std::vector<std::map<std::string, Histogram*, std::less<>>> kernel_time_;
  std::map<std::string, CompressCounters, std::less<>> compressed_;
};

}  // namespace kvattend

#endif  // KVATTEND_SERVER_OBSERVABILITY_PROMETHEUS_METRICS_H_
