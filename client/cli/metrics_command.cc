// kvattend metrics: what the server's metrics say, in short or in full.
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/command.h"
#include "client/cli/http_get.h"
#include "client/cli/json.h"
#include "client/cli/metrics_text.h"
#include "client/cli/table.h"
#include "client/cli/values.h"

namespace kvattend::cli {
namespace {

// Histograms that are shown, and the labels they are told apart by: few for people, all for
// programs.
struct Latency {
  const char* metric;
  const char* title;
  std::vector<std::string> by_in_text;
  std::vector<std::string> by_in_json;
};

std::vector<Latency> ShownLatencies() {
  return {{"grpc_server_call_duration_seconds",
           "calls",
           {"grpc_method", "grpc_status"},
           {"grpc_method", "grpc_status"}},
          {"kvattend_kernel_seconds", "kernels", {"op"}, {"op", "codec"}},
          {"kvattend_queue_wait_seconds", "queue", {"op"}, {"op"}}};
}

// Their values, in the order of their names: "kvattend.v1.AttentionService/Append OK".
std::string LabelsText(const Labels& labels) {
  return absl::StrJoin(labels, " ", [](std::string* text, const auto& label) {
    absl::StrAppend(text, label.second);
  });
}

// The figures that are single numbers. kvattend_kv_bytes is summed over the tiers.
struct Figures {
  int64_t kv_bytes = 0;
  int64_t dense_bytes = 0;
  int64_t capacity_bytes = 0;
  int64_t sessions = 0;
  int64_t tokens_appended = 0;
  int64_t append_replays = 0;
  int64_t queue_depth = 0;
  int64_t rejections = 0;
};

Figures ReadFigures(const std::vector<Sample>& samples) {
  const auto read = [&](absl::string_view name) {
    return static_cast<int64_t>(SumOf(samples, name).value_or(0));
  };
  return {.kv_bytes = read("kvattend_kv_bytes"),
          .dense_bytes = read("kvattend_kv_dense_bytes"),
          .capacity_bytes = read("kvattend_kv_capacity_bytes"),
          .sessions = read("kvattend_sessions"),
          .tokens_appended = read("kvattend_tokens_appended_total"),
          .append_replays = read("kvattend_append_replays_total"),
          .queue_depth = read("kvattend_queue_depth"),
          .rejections = read("kvattend_rejections_total")};
}

double Ratio(int64_t dividend, int64_t divisor) {
  return divisor == 0 ? 0 : static_cast<double>(dividend) / static_cast<double>(divisor);
}

void PrintText(const std::vector<Sample>& samples, std::ostream& out) {
  const Figures figures = ReadFigures(samples);
  out << "memory      " << BytesText(figures.kv_bytes) << " of "
      << BytesText(figures.capacity_bytes) << "; dense fp16 would take "
      << BytesText(figures.dense_bytes);
  if (figures.kv_bytes > 0) {
    out << absl::StrFormat(" (%.2fx, ", Ratio(figures.dense_bytes, figures.kv_bytes))
        << BytesText(figures.dense_bytes - figures.kv_bytes) << " saved)";
  }
  out << "\nsessions    " << CountText(figures.sessions) << "\ntokens      "
      << CountText(figures.tokens_appended) << " appended (a layer's token is one), "
      << CountText(figures.append_replays) << " appends replayed\nqueue       "
      << CountText(figures.queue_depth) << " waiting, " << CountText(figures.rejections)
      << " refused\n";
  for (const Latency& latency : ShownLatencies()) {
    const std::vector<Histogram> histograms =
        HistogramsOf(samples, latency.metric, latency.by_in_text);
    if (histograms.empty()) continue;
    out << "\n";
    Table table({{latency.title, Table::Align::kLeft}, {"count"}, {"p50"}, {"p99"}, {"mean"}});
    for (const Histogram& histogram : histograms) {
      table.AddRow({LabelsText(histogram.labels),
                    CountText(static_cast<int64_t>(histogram.count())),
                    DurationText(absl::Seconds(Quantile(histogram, 0.5))),
                    DurationText(absl::Seconds(Quantile(histogram, 0.99))),
                    DurationText(absl::Seconds(histogram.sum / histogram.count()))});
    }
    table.Print(out);
  }
}

Json SummaryJson(const std::vector<Sample>& samples) {
  const Figures figures = ReadFigures(samples);
  Json summary = {{"kv_bytes", figures.kv_bytes},
                  {"kv_dense_bytes", figures.dense_bytes},
                  {"kv_capacity_bytes", figures.capacity_bytes},
                  {"saved_bytes", figures.dense_bytes - figures.kv_bytes},
                  {"times_smaller", Ratio(figures.dense_bytes, figures.kv_bytes)},
                  {"sessions", figures.sessions},
                  {"tokens_appended", figures.tokens_appended},
                  {"append_replays", figures.append_replays},
                  {"queue_depth", figures.queue_depth},
                  {"rejections", figures.rejections}};
  for (const Latency& latency : ShownLatencies()) {
    Json rows = Json::array();
    for (const Histogram& histogram : HistogramsOf(samples, latency.metric, latency.by_in_json)) {
      rows.push_back({{"labels", histogram.labels},
                      {"count", histogram.count()},
                      {"p50_seconds", Quantile(histogram, 0.5)},
                      {"p99_seconds", Quantile(histogram, 0.99)},
                      {"mean_seconds", histogram.sum / histogram.count()}});
    }
    summary[latency.metric] = rows;
  }
  return summary;
}

Json AllJson(const std::vector<Sample>& samples) {
  Json all = Json::array();
  for (const Sample& sample : samples) {
    all.push_back({{"name", sample.name}, {"labels", sample.labels}, {"value", sample.value}});
  }
  return {{"samples", all}};
}

absl::StatusOr<ExitCode> Run(const Arguments& arguments, Io& io) {
  const auto json = arguments.WantsJson();
  if (!json.ok()) return json.status();
  const auto timeout = arguments.GetDuration("timeout");
  if (!timeout.ok()) return timeout.status();
  const auto text =
      HttpGet(absl::StrCat("http://", arguments.Get("metrics"), "/metrics"), *timeout);
  if (!text.ok()) return text.status();
  const auto samples = ParseMetrics(*text);
  if (!samples.ok()) return samples.status();
  const bool all = arguments.Has("all");
  if (*json) {
    PrintJson(all ? AllJson(*samples) : SummaryJson(*samples), io.out);
  } else if (all) {
    io.out << *text;
  } else {
    PrintText(*samples, io.out);
  }
  return ExitCode::kOk;
}

}  // namespace

Command MetricsCommand() {
  CommandSpec spec;
  spec.name = "metrics";
  spec.summary = "memory saved, sessions, latencies, from the server's metrics";
  spec.options = {{"metrics", "HOST:PORT", "the server's metrics address", "127.0.0.1:9464"},
                  {"all", "", "everything, as the server writes it", ""},
                  TimeoutOption(),
                  FormatOption()};
  spec.description =
      "Reads the server's metrics and shows those that matter: memory against dense fp16, "
      "sessions, "
      "tokens, the\nqueue, and p50 and p99 of calls, kernels and queue, estimated from histogram "
      "buckets as Prometheus does.";
  spec.examples = {"kvattend metrics", "kvattend metrics --metrics=10.0.0.7:9464 --format=json",
                   "kvattend metrics --all | grep kvattend_kv_"};
  return {spec, Run};
}

}  // namespace kvattend::cli
