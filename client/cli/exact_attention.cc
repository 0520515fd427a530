#include "client/cli/exact_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace kvattend::cli {

std::vector<double> ExactScores(const AttentionShape& shape, absl::Span<const float> queries,
                                absl::Span<const float> keys) {
  std::vector<double> scores(shape.heads * shape.tokens);
  for (int64_t row = 0; row < shape.heads * shape.tokens; ++row) {
    const float* const query = &queries[row / shape.tokens * shape.head_dim];
    const float* const key = &keys[row * shape.head_dim];
    for (int64_t c = 0; c < shape.head_dim; ++c) {
      scores[row] += static_cast<double>(query[c]) * key[c];
    }
  }
  return scores;
}

std::vector<double> ExactOutputs(const AttentionShape& shape, absl::Span<const double> scores,
                                 double scale, absl::Span<const float> values) {
  std::vector<double> outputs(shape.heads * shape.head_dim);
  for (int64_t head = 0; head < shape.heads; ++head) {
    const absl::Span<const double> row = scores.subspan(head * shape.tokens, shape.tokens);
    const double peak = scale * (scale < 0 ? *std::min_element(row.begin(), row.end())
                                           : *std::max_element(row.begin(), row.end()));
    double sum = 0;
    for (double score : row) sum += std::exp(scale * score - peak);
    for (int64_t t = 0; t < shape.tokens; ++t) {
      const double weight = std::exp(scale * row[t] - peak) / sum;
      const float* const value = &values[(head * shape.tokens + t) * shape.head_dim];
      for (int64_t c = 0; c < shape.head_dim; ++c) {
        outputs[head * shape.head_dim + c] += weight * value[c];
      }
    }
  }
  return outputs;
}

double RelativeError(int64_t heads, absl::Span<const float> found, absl::Span<const double> exact) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (found.size() != exact.size()) return kInfinity;
  const int64_t part = static_cast<int64_t>(exact.size()) / heads;
  double largest = 0;
  for (int64_t head = 0; head < heads; ++head) {
    double error = 0;
    double magnitude = 0;
    for (int64_t i = head * part; i < (head + 1) * part; ++i) {
      if (!std::isfinite(found[i])) return kInfinity;
      error = std::max(error, std::abs(found[i] - exact[i]));
      magnitude = std::max(magnitude, std::abs(exact[i]));
    }
    if (error > 0) largest = std::max(largest, magnitude == 0 ? kInfinity : error / magnitude);
  }
  return largest;
}

}  // namespace kvattend::cli
