#include "client/cli/metrics_text.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace kvattend::cli {
namespace {

// Reads `name="value",...}` off the front of `rest`, the opening brace gone already.
bool ParseLabels(absl::string_view* rest, Labels* labels) {
  while (true) {
    *rest = absl::StripLeadingAsciiWhitespace(*rest);
    if (absl::ConsumePrefix(rest, "}")) return true;
    const size_t equals = rest->find("=\"");
    if (equals == absl::string_view::npos) return false;
    const std::string name(absl::StripAsciiWhitespace(rest->substr(0, equals)));
    rest->remove_prefix(equals + 2);
    std::string value;
    while (!rest->empty() && rest->front() != '"') {
      char letter = rest->front();
      rest->remove_prefix(1);
      if (letter == '\\') {
        if (rest->empty()) return false;
        letter = rest->front() == 'n' ? '\n' : rest->front();
        rest->remove_prefix(1);
      }
      value += letter;
    }
    if (!absl::ConsumePrefix(rest, "\"")) return false;
    absl::ConsumePrefix(rest, ",");
    (*labels)[name] = value;
  }
}

bool ParseSample(absl::string_view line, Sample* sample) {
  const size_t name_end = line.find_first_of("{ \t");
  if (name_end == absl::string_view::npos || name_end == 0) return false;
  sample->name = std::string(line.substr(0, name_end));
  line.remove_prefix(name_end);
  if (absl::ConsumePrefix(&line, "{") && !ParseLabels(&line, &sample->labels)) return false;
  const std::vector<absl::string_view> fields =
      absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
  // The value, and perhaps a time stamp.
  return !fields.empty() && fields.size() <= 2 && absl::SimpleAtod(fields[0], &sample->value);
}

bool HasLabels(const Sample& sample, const Labels& labels) {
  return std::all_of(labels.begin(), labels.end(), [&](const auto& label) {
    const auto found = sample.labels.find(label.first);
    return found != sample.labels.end() && found->second == label.second;
  });
}

}  // namespace

absl::StatusOr<std::vector<Sample>> ParseMetrics(absl::string_view text) {
  std::vector<Sample> samples;
  int line_number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++line_number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line.front() == '#') continue;
    Sample sample;
    if (!ParseSample(line, &sample)) {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", line_number, " is not a metric: ", line));
    }
    samples.push_back(std::move(sample));
  }
  return samples;
}

std::optional<double> SumOf(const std::vector<Sample>& samples, absl::string_view name,
                            const Labels& labels) {
  std::optional<double> sum;
  for (const Sample& sample : samples) {
    if (sample.name == name && HasLabels(sample, labels)) sum = sum.value_or(0) + sample.value;
  }
  return sum;
}

std::vector<Histogram> HistogramsOf(const std::vector<Sample>& samples, absl::string_view name,
                                    const std::vector<std::string>& by) {
  std::map<Labels, Histogram> histograms;
  for (const Sample& sample : samples) {
    if (!absl::StartsWith(sample.name, name)) continue;
    Labels labels;
    for (const std::string& key : by) {
      const auto found = sample.labels.find(key);
      if (found != sample.labels.end()) labels.insert(*found);
    }
    const absl::string_view suffix = absl::string_view(sample.name).substr(name.size());
    if (suffix == "_sum") {
      histograms[labels].sum += sample.value;
    } else if (suffix == "_bucket") {
      double bound = 0;
      const auto le = sample.labels.find("le");
      if (le == sample.labels.end() || !absl::SimpleAtod(le->second, &bound)) continue;
      histograms[labels].buckets[bound] += sample.value;
    }
  }
  std::vector<Histogram> result;
  for (auto& [labels, histogram] : histograms) {
    if (histogram.count() == 0) continue;
    histogram.labels = labels;
    result.push_back(std::move(histogram));
  }
  return result;
}

double Quantile(const Histogram& histogram, double quantile) {
  const double rank = quantile * histogram.count();
  double lower_bound = 0;
  double lower_count = 0;
  for (const auto& [bound, count] : histogram.buckets) {
    if (count >= rank && count > lower_count) {
      if (std::isinf(bound)) return lower_bound;
      return lower_bound + (bound - lower_bound) * (rank - lower_count) / (count - lower_count);
    }
    if (!std::isinf(bound)) lower_bound = bound;
    lower_count = count;
  }
  return 0;
}

}  // namespace kvattend::cli
