#include "server/observability/prometheus_metrics.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/codec/codec_spec.h"
#include "prometheus/text_serializer.h"
#include "server/observability/process_metrics.h"

namespace kvattend {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string Exposition(const PrometheusMetrics& metrics) {
  std::vector<prometheus::MetricFamily> families = metrics.registry()->Collect();
  for (auto& family : ProcessMetrics().Collect()) families.push_back(std::move(family));
  return prometheus::TextSerializer().Serialize(families);
}

class PrometheusMetricsTest : public ::testing::Test {
 protected:
  PrometheusMetrics metrics_{"1.2.3", "abc", "cpu"};
};

TEST_F(PrometheusMetricsTest, EverySeriesStartsAtZero) {
  const std::string text = Exposition(metrics_);
  EXPECT_THAT(text, HasSubstr("kvattend_ready 0\n"));
  EXPECT_THAT(text, HasSubstr("kvattend_sessions 0\n"));
  EXPECT_THAT(text, HasSubstr("kvattend_sessions_closed_total{reason=\"deleted\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("kvattend_kv_bytes{tier=\"device\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("kvattend_kv_capacity_bytes{tier=\"device\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("kvattend_kv_dense_bytes 0\n"));
  EXPECT_THAT(text, HasSubstr("kvattend_tokens_appended_total 0\n"));
  EXPECT_THAT(text, HasSubstr("kvattend_append_replays_total 0\n"));
  EXPECT_THAT(text, HasSubstr("kvattend_queue_depth 0\n"));
  for (int i = 0; i < kNumEngineOps; ++i) {
    const auto op = EngineOpName(static_cast<EngineOp>(i));
    EXPECT_THAT(text,
                HasSubstr(absl::StrCat("kvattend_queue_wait_seconds_count{op=\"", op, "\"} 0\n")));
  }
  for (int i = 0; i < kNumRejectReasons; ++i) {
    const auto reason = RejectReasonName(static_cast<RejectReason>(i));
    EXPECT_THAT(text,
                HasSubstr(absl::StrCat("kvattend_rejections_total{reason=\"", reason, "\"} 0\n")));
  }
  for (int i = 0; i < kNumMethods; ++i) {
    const auto method = MethodName(static_cast<Method>(i));
    EXPECT_THAT(text, HasSubstr(absl::StrCat("grpc_server_call_started_total{grpc_method=\"",
                                             method, "\"} 0\n")));
    EXPECT_THAT(text,
                HasSubstr(absl::StrCat("grpc_server_call_duration_seconds_count{grpc_method=\"",
                                       method, "\",grpc_status=\"OK\"} 0\n")));
  }
  for (const CodecPreset& preset : CodecPresets()) {
    for (const char* op : {"append", "attend", "compute_scores", "compress_session", "compress"}) {
      EXPECT_THAT(text, HasSubstr(absl::StrCat("kvattend_kernel_seconds_count{codec=\"",
                                               preset.name, "\",op=\"", op, "\"} 0\n")));
    }
    for (const char* name :
         {"kvattend_compress_input_bytes_total", "kvattend_compress_output_bytes_total"}) {
      EXPECT_THAT(text, HasSubstr(absl::StrCat(name, "{codec=\"", preset.name, "\"} 0\n")));
    }
  }
  EXPECT_THAT(text, HasSubstr("kvattend_kernel_seconds_count{codec=\"custom\",op=\"append\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("kvattend_kernel_seconds_count{codec=\"mixed\",op=\"attend\"} 0\n"));
  EXPECT_THAT(text,
              HasSubstr("kvattend_kernel_seconds_count{codec=\"mustafar\",op=\"compress\"} 0\n"));
}

TEST_F(PrometheusMetricsTest, SaysWhatRunsHere) {
  EXPECT_THAT(
      Exposition(metrics_),
      HasSubstr("kvattend_build_info{commit=\"abc\",device=\"cpu\",version=\"1.2.3\"} 1\n"));
}

TEST_F(PrometheusMetricsTest, CountsWhatIsReported) {
  metrics_.SetReady(true);
  metrics_.QueueDepth(3);
  metrics_.QueueWait(EngineOp::kAttend, absl::Microseconds(15));
  metrics_.KernelTime(EngineOp::kAttend, "balanced", absl::Milliseconds(1));
  metrics_.BatchSize(EngineOp::kAttend, 5);
  metrics_.Rejected(RejectReason::kQueueFull);
  metrics_.AppendReplayed();
  metrics_.TokensAppended(640);
  metrics_.Compressed("lean", 32768, 3648);
  metrics_.SessionClosed(SessionCloseReason::kDeleted);
  metrics_.Memory(
      {.kv_bytes = 4096, .dense_bytes = 32768, .capacity_bytes = 65536, .num_sessions = 2});
  const std::string text = Exposition(metrics_);
  for (const char* line :
       {"kvattend_ready 1\n", "kvattend_queue_depth 3\n",
        "kvattend_queue_wait_seconds_bucket{op=\"attend\",le=\"1e-05\"} 0\n",
        "kvattend_queue_wait_seconds_bucket{op=\"attend\",le=\"2e-05\"} 1\n",
        "kvattend_kernel_seconds_count{codec=\"balanced\",op=\"attend\"} 1\n",
        "kvattend_batch_size_bucket{op=\"attend\",le=\"8\"} 1\n",
        "kvattend_rejections_total{reason=\"queue_full\"} 1\n", "kvattend_append_replays_total 1\n",
        "kvattend_tokens_appended_total 640\n",
        "kvattend_compress_input_bytes_total{codec=\"lean\"} 32768\n",
        "kvattend_compress_output_bytes_total{codec=\"lean\"} 3648\n",
        "kvattend_sessions_closed_total{reason=\"deleted\"} 1\n",
        "kvattend_kv_bytes{tier=\"device\"} 4096\n", "kvattend_kv_dense_bytes 32768\n",
        "kvattend_kv_capacity_bytes{tier=\"device\"} 65536\n", "kvattend_sessions 2\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST_F(PrometheusMetricsTest, CountsCallsByMethodAndStatus) {
  metrics_.CallStarted(Method::kAppend);
  metrics_.CallFinished(Method::kAppend, absl::StatusCode::kOk, absl::Milliseconds(2));
  metrics_.CallStarted(Method::kAppend);
  metrics_.CallFinished(Method::kAppend, absl::StatusCode::kInvalidArgument, absl::Seconds(100));
  // A clock that was set back.
  metrics_.CallFinished(Method::kAppend, absl::StatusCode::kInvalidArgument, -absl::Seconds(100));
  const std::string text = Exposition(metrics_);
  const std::string labels = "grpc_method=\"kvattend.v1.AttentionService/Append\"";
  EXPECT_THAT(text, HasSubstr("grpc_server_call_started_total{" + labels + "} 2\n"));
  EXPECT_THAT(text, HasSubstr("grpc_server_call_duration_seconds_count{" + labels +
                              ",grpc_status=\"OK\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("grpc_server_call_duration_seconds_count{" + labels +
                              ",grpc_status=\"INVALID_ARGUMENT\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("grpc_server_call_duration_seconds_sum{" + labels +
                              ",grpc_status=\"INVALID_ARGUMENT\"} 100\n"));
}

TEST_F(PrometheusMetricsTest, LabelsItDoesNotKnowMakeNoSeries) {
  const std::string before = Exposition(metrics_);
  metrics_.KernelTime(EngineOp::kAppend, "sessions/a", absl::Seconds(1));
  metrics_.KernelTime(EngineOp::kGet, "balanced", absl::Seconds(1));
  metrics_.Compressed("sessions/a", 1, 1);
  metrics_.BatchSize(EngineOp::kGet, 1);
  EXPECT_THAT(Exposition(metrics_), Not(HasSubstr("sessions/a")));
}

TEST_F(PrometheusMetricsTest, PromtoolFindsNothingToSay) {
  if (std::system("command -v promtool > /dev/null 2>&1") != 0) {
    GTEST_SKIP() << "promtool is not installed";
  }
  const std::string path = absl::StrCat(::testing::TempDir(), "exposition.", getpid(), ".txt");
  std::ofstream(path) << Exposition(metrics_);
  EXPECT_EQ(std::system(absl::StrCat("promtool check metrics < ", path).c_str()), 0);
  std::remove(path.c_str());
}

}  // namespace
}  // namespace kvattend
