#include "server/observability/prometheus_metrics.h"

#include <algorithm>

#include "kernels/codec/codec_spec.h"

namespace kvattend {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using Buckets = prometheus::Histogram::BucketBoundaries;

constexpr char kMixedCodecs[] = "mixed";
// The reference formats, of the stateless calls.
constexpr char kMustafarCodec[] = "mustafar";

// 10 us to 21 s.
Buckets SecondsBuckets() {
  Buckets buckets;
  constexpr int kNumBuckets = 22;
  double bound = 1e-5;
  for (int i = 0; i < kNumBuckets; ++i, bound *= 2) buckets.push_back(bound);
  return buckets;
}

// 1 to the most items that a call may have.
Buckets ItemBuckets() {
  Buckets buckets;
  for (int bound = 1; bound <= 4096; bound *= 2) buckets.push_back(bound);
  return buckets;
}

std::string ToString(absl::string_view text) { return std::string(text); }

// A clock that is set back must not make a histogram's sum shrink.
double Seconds(absl::Duration duration) { return std::max(absl::ToDoubleSeconds(duration), 0.0); }

prometheus::Gauge& AddGauge(prometheus::Registry& registry, const char* name, const char* help,
                            const prometheus::Labels& labels = {}) {
  return BuildGauge().Name(name).Help(help).Register(registry).Add(labels);
}

prometheus::Counter& AddCounter(prometheus::Registry& registry, const char* name, const char* help,
                                const prometheus::Labels& labels = {}) {
  return BuildCounter().Name(name).Help(help).Register(registry).Add(labels);
}

// The codecs that sessions have.
std::vector<std::string> SessionCodecs() {
  std::vector<std::string> names;
  for (const CodecPreset& preset : CodecPresets()) names.emplace_back(preset.name);
  names.emplace_back(kCustomCodec);
  return names;
}

// And those that an operation's kernels may be labelled with; none if it has no kernels.
std::vector<std::string> KernelCodecs(EngineOp op) {
  std::vector<std::string> names = SessionCodecs();
  switch (op) {
    case EngineOp::kAppend:
    case EngineOp::kAttend:
    case EngineOp::kScores:
      names.emplace_back(kMixedCodecs);
      return names;
    case EngineOp::kEncode:
    case EngineOp::kDecode:
      names.emplace_back(kMustafarCodec);
      return names;
    case EngineOp::kCompressSession:
      return names;
    default:
      return {};
  }
}

bool HasBatches(EngineOp op) {
  return op == EngineOp::kAppend || op == EngineOp::kAttend || op == EngineOp::kScores;
}

}  // namespace

PrometheusMetrics::PrometheusMetrics(absl::string_view version, absl::string_view commit,
                                     absl::string_view device)
    : registry_(std::make_shared<prometheus::Registry>()),
      ready_(AddGauge(*registry_, "kvattend_ready", "1 while the server takes calls, else 0.")),
      sessions_(AddGauge(*registry_, "kvattend_sessions", "Sessions that exist.")),
      kv_bytes_(AddGauge(*registry_, "kvattend_kv_bytes",
                         "Memory that sessions' blocks and pages take, counted once where forks "
                         "share it.",
                         {{"tier", "device"}})),
      kv_dense_bytes_(AddGauge(*registry_, "kvattend_kv_dense_bytes",
                               "What all sessions' tokens would take as dense float16.")),
      kv_capacity_bytes_(AddGauge(*registry_, "kvattend_kv_capacity_bytes",
                                  "Memory that blocks and pages may take.", {{"tier", "device"}})),
      queue_depth_(
          AddGauge(*registry_, "kvattend_queue_depth", "Operations that wait for the executor.")),
      sessions_deleted_(AddCounter(*registry_, "kvattend_sessions_closed_total",
                                   "Sessions that ended.", {{"reason", "deleted"}})),
      tokens_appended_(AddCounter(*registry_, "kvattend_tokens_appended_total",
                                  "Tokens appended, counted in every layer that they were appended "
                                  "to.")),
      append_replays_(AddCounter(*registry_, "kvattend_append_replays_total",
                                 "Append items whose tokens were there already.")),
      call_duration_(BuildHistogram()
                         .Name("grpc_server_call_duration_seconds")
                         .Help("From a call's arrival at its handler to its answer.")
                         .Register(*registry_)) {
  AddGauge(
      *registry_, "kvattend_build_info", "What runs here; always 1.",
      {{"version", ToString(version)}, {"commit", ToString(commit)}, {"device", ToString(device)}})
      .Set(1);
  AddCallSeries();
  AddEngineSeries();
  AddCodecSeries();
}

void PrometheusMetrics::AddCallSeries() {
  auto& started = BuildCounter()
                      .Name("grpc_server_call_started_total")
                      .Help("Calls that arrived at their handler.")
                      .Register(*registry_);
  for (int i = 0; i < kNumMethods; ++i) {
    const std::string method = ToString(MethodName(static_cast<Method>(i)));
    calls_started_.push_back(&started.Add({{"grpc_method", method}}));
    calls_ok_.push_back(
        &call_duration_.Add({{"grpc_method", method}, {"grpc_status", "OK"}}, SecondsBuckets()));
  }
}

void PrometheusMetrics::AddEngineSeries() {
  auto& rejections =
      BuildCounter()
          .Name("kvattend_rejections_total")
          .Help("Operations, or items of one, that were refused and changed nothing.")
          .Register(*registry_);
  for (int i = 0; i < kNumRejectReasons; ++i) {
    const std::string reason = ToString(RejectReasonName(static_cast<RejectReason>(i)));
    rejections_.push_back(&rejections.Add({{"reason", reason}}));
  }
  auto& queue_wait = BuildHistogram()
                         .Name("kvattend_queue_wait_seconds")
                         .Help("Time that operations waited for the executor.")
                         .Register(*registry_);
  auto& batch_size =
      BuildHistogram().Name("kvattend_batch_size").Help("Items of a call.").Register(*registry_);
  for (int i = 0; i < kNumEngineOps; ++i) {
    const auto op = static_cast<EngineOp>(i);
    const prometheus::Labels labels = {{"op", ToString(EngineOpName(op))}};
    queue_wait_.push_back(&queue_wait.Add(labels, SecondsBuckets()));
    batch_size_.push_back(HasBatches(op) ? &batch_size.Add(labels, ItemBuckets()) : nullptr);
  }
}

void PrometheusMetrics::AddCodecSeries() {
  auto& kernel_time = BuildHistogram()
                          .Name("kvattend_kernel_seconds")
                          .Help("Time in the backend.")
                          .Register(*registry_);
  kernel_time_.resize(kNumEngineOps);
  for (int i = 0; i < kNumEngineOps; ++i) {
    const auto op = static_cast<EngineOp>(i);
    for (const std::string& codec : KernelCodecs(op)) {
      kernel_time_[i][codec] = &kernel_time.Add(
          {{"op", ToString(EngineOpName(op))}, {"codec", codec}}, SecondsBuckets());
    }
  }
  auto& input_bytes = BuildCounter()
                          .Name("kvattend_compress_input_bytes_total")
                          .Help("Dense float16 bytes that were compressed into blocks.")
                          .Register(*registry_);
  auto& output_bytes = BuildCounter()
                           .Name("kvattend_compress_output_bytes_total")
                           .Help("Bytes of the blocks that they became.")
                           .Register(*registry_);
  for (const std::string& codec : SessionCodecs()) {
    compressed_[codec] = {&input_bytes.Add({{"codec", codec}}),
                          &output_bytes.Add({{"codec", codec}})};
  }
}

void PrometheusMetrics::SetReady(bool ready) { ready_.Set(ready ? 1 : 0); }

void PrometheusMetrics::CallStarted(Method method) {
  calls_started_[static_cast<size_t>(method)]->Increment();
}

void PrometheusMetrics::CallFinished(Method method, absl::StatusCode code,
                                     absl::Duration duration) {
  if (code == absl::StatusCode::kOk) {
    calls_ok_[static_cast<size_t>(method)]->Observe(Seconds(duration));
    return;
  }
  // Add gives the series that is there already, if it is.
  call_duration_
      .Add({{"grpc_method", ToString(MethodName(method))},
            {"grpc_status", absl::StatusCodeToString(code)}},
           SecondsBuckets())
      .Observe(Seconds(duration));
}

void PrometheusMetrics::QueueDepth(int depth) { queue_depth_.Set(depth); }

void PrometheusMetrics::QueueWait(EngineOp op, absl::Duration wait) {
  queue_wait_[static_cast<size_t>(op)]->Observe(Seconds(wait));
}

void PrometheusMetrics::KernelTime(EngineOp op, absl::string_view codec, absl::Duration time) {
  const auto& by_codec = kernel_time_[static_cast<size_t>(op)];
  const auto found = by_codec.find(codec);
  if (found != by_codec.end()) found->second->Observe(Seconds(time));
}

void PrometheusMetrics::BatchSize(EngineOp op, int items) {
  if (auto* histogram = batch_size_[static_cast<size_t>(op)]; histogram != nullptr) {
    histogram->Observe(items);
  }
}

void PrometheusMetrics::Rejected(RejectReason reason) {
  rejections_[static_cast<size_t>(reason)]->Increment();
}

void PrometheusMetrics::AppendReplayed() { append_replays_.Increment(); }

void PrometheusMetrics::TokensAppended(int64_t layer_tokens) {
  tokens_appended_.Increment(static_cast<double>(layer_tokens));
}

void PrometheusMetrics::Compressed(absl::string_view codec, int64_t input_bytes,
                                   int64_t output_bytes) {
  const auto found = compressed_.find(codec);
  if (found == compressed_.end()) return;
  found->second.input_bytes->Increment(static_cast<double>(input_bytes));
  found->second.output_bytes->Increment(static_cast<double>(output_bytes));
}

void PrometheusMetrics::SessionClosed(SessionCloseReason reason) {
  switch (reason) {
    case SessionCloseReason::kDeleted:
      sessions_deleted_.Increment();
      return;
  }
}

void PrometheusMetrics::Memory(const MemoryUse& use) {
  sessions_.Set(static_cast<double>(use.num_sessions));
  kv_bytes_.Set(static_cast<double>(use.kv_bytes));
  kv_dense_bytes_.Set(static_cast<double>(use.dense_bytes));
  kv_capacity_bytes_.Set(static_cast<double>(use.capacity_bytes));
}

}  // namespace kvattend
