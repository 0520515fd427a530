#include "tests/support/reference_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace kvattend::testing {

std::vector<double> ReferenceScores(const DenseLayer& layer, int64_t length, const Query& query) {
  const int head_dim = layer.head_dim;
  const int group = query.num_query_heads / layer.num_kv_heads;
  const int64_t width = length - query.start_position;
  std::vector<double> scores(query.num_tokens * query.num_query_heads * width,
                             -std::numeric_limits<double>::infinity());
  double* row = scores.data();
  for (int token = 0; token < query.num_tokens; ++token) {
    for (int head = 0; head < query.num_query_heads; ++head, row += width) {
      const float* const q = query.data + (token * query.num_query_heads + head) * head_dim;
      const int64_t end = length - query.num_tokens + token + 1;
      for (int64_t t = query.start_position; t < end; ++t) {
        const float* const k =
            layer.keys.data() + (t * layer.num_kv_heads + head / group) * head_dim;
        double dot = 0.0;
        for (int c = 0; c < head_dim; ++c) dot += double{q[c]} * k[c];
        row[t - query.start_position] = query.scale * dot;
      }
    }
  }
  return scores;
}

ReferenceOutput ReferenceAttend(const DenseLayer& layer, int64_t length, const Query& query) {
  const int head_dim = layer.head_dim;
  const int group = query.num_query_heads / layer.num_kv_heads;
  const int64_t width = length - query.start_position;
  const int64_t num_rows = int64_t{query.num_tokens} * query.num_query_heads;
  const std::vector<double> scores = ReferenceScores(layer, length, query);
  ReferenceOutput result{std::vector<double>(num_rows * head_dim), std::vector<double>(num_rows)};
  for (int64_t row = 0; row < num_rows; ++row) {
    const double* const s = scores.data() + row * width;
    const int64_t kv_head = row % query.num_query_heads / group;
    double* const output = result.output.data() + row * head_dim;
    const double max = *std::max_element(s, s + width);
    double sum = 0.0;
    for (int64_t i = 0; i < width; ++i) {
      const double p = std::exp(s[i] - max);
      if (p == 0.0) continue;
      sum += p;
      const float* const v = layer.values.data() +
                             ((query.start_position + i) * layer.num_kv_heads + kv_head) * head_dim;
      for (int c = 0; c < head_dim; ++c) output[c] += p * v[c];
    }
    for (int c = 0; c < head_dim; ++c) output[c] /= sum;
    result.lse[row] = max + std::log(sum);
  }
  return result;
}

}  // namespace kvattend::testing
