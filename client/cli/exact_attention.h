// Attention in float64, from its definition: what answers of the server are compared with.
//
// Thread-safe: pure functions.
#ifndef KVATTEND_CLIENT_CLI_EXACT_ATTENTION_H_
#define KVATTEND_CLIENT_CLI_EXACT_ATTENTION_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace kvattend::cli {

struct AttentionShape {
  int64_t heads = 0;
  int64_t tokens = 0;
  int64_t head_dim = 0;
};

// q.k [heads, tokens] of one query a head, from queries [heads, head_dim] and keys [heads, tokens,
// head_dim].
std::vector<double> ExactScores(const AttentionShape& shape, absl::Span<const float> queries,
                                absl::Span<const float> keys);

// softmax(scale * scores) V [heads, head_dim], from values [heads, tokens, head_dim].
std::vector<double> ExactOutputs(const AttentionShape& shape, absl::Span<const double> scores,
                                 double scale, absl::Span<const float> values);

// max|found - exact| / max|exact| within each of `heads` equal parts; the largest of them. Infinity
// where a value of `found` is not finite, and where a part is zeros but not found to be.
double RelativeError(int64_t heads, absl::Span<const float> found, absl::Span<const double> exact);

}  // namespace kvattend::cli

#endif  // KVATTEND_CLIENT_CLI_EXACT_ATTENTION_H_
