#include "kernels/cpu/top_k.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace kvattend {

int64_t SelectTopK(absl::Span<const float> scores, int64_t first_position, int64_t k,
                   float* top_scores, int64_t* top_positions) {
  // A NaN (queries near the end of float32's range make them) comes last: a strict order whatever
  // the scores.
  const auto comes_before = [&scores](int64_t a, int64_t b) {
    const float x = scores[a];
    const float y = scores[b];
    if (x > y || x < y) return x > y;
    if (std::isnan(x) != std::isnan(y)) return std::isnan(y);
    return a < b;
  };
  std::vector<int64_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  k = std::min<int64_t>(k, static_cast<int64_t>(scores.size()));
  if (k < static_cast<int64_t>(scores.size())) {
    std::nth_element(order.begin(), order.begin() + k, order.end(), comes_before);
  }
  std::sort(order.begin(), order.begin() + k, comes_before);
  for (int64_t i = 0; i < k; ++i) {
    top_scores[i] = scores[order[i]];
    top_positions[i] = first_position + order[i];
  }
  return k;
}

}  // namespace kvattend
