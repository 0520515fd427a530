// Prometheus' text format, as far as this command line reads it: samples, and quantiles of
// histograms.
//
// Thread-safe: plain values and pure functions.
#ifndef KVATTEND_CLIENT_CLI_METRICS_TEXT_H_
#define KVATTEND_CLIENT_CLI_METRICS_TEXT_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kvattend::cli {

using Labels = std::map<std::string, std::string>;

struct Sample {
  std::string name;
  Labels labels;
  double value = 0;
};

// The samples in the order of the text; comments and time stamps are skipped. INVALID_ARGUMENT
// naming the line that is not in the format.
absl::StatusOr<std::vector<Sample>> ParseMetrics(absl::string_view text);

// The sum over samples of `name` that have all of `labels`; nothing where there is none.
std::optional<double> SumOf(const std::vector<Sample>& samples, absl::string_view name,
                            const Labels& labels = {});

// A histogram's series: those that differ in "le" alone.
struct Histogram {
  Labels labels;
  // Upper bound to cumulative count; the last bound is infinity.
  std::map<double, double> buckets;
  double sum = 0;

  double count() const { return buckets.empty() ? 0 : buckets.rbegin()->second; }
};

// The histograms of `name` that have observed anything, added up over all labels but those in `by`.
std::vector<Histogram> HistogramsOf(const std::vector<Sample>& samples, absl::string_view name,
                                    const std::vector<std::string>& by);

// As Prometheus' histogram_quantile: linear within a bucket, from 0 in the first one; the highest
// finite bound in the last one. 0 for an empty histogram; `quantile` in [0, 1].
double Quantile(const Histogram& histogram, double quantile);

}  // namespace kvattend::cli

#endif  // KVATTEND_CLIENT_CLI_METRICS_TEXT_H_
