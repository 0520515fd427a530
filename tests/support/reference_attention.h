// Exact attention in float64, to compare backends with.
//
// Thread-safe: pure functions.
#ifndef KVATTEND_TESTS_SUPPORT_REFERENCE_ATTENTION_H_
#define KVATTEND_TESTS_SUPPORT_REFERENCE_ATTENTION_H_

#include <cstdint>
#include <vector>

#include "kernels/backend.h"

namespace kvattend::testing {

// A layer's cache, decompressed: float32 [tokens, num_kv_heads, head_dim].
struct DenseLayer {
  int num_kv_heads = 0;
  int head_dim = 0;
  std::vector<float> keys;
  std::vector<float> values;
};

// scale * q.k of every row [num_tokens, num_query_heads, length - start_position] over the first
// `length` tokens; -infinity where a row does not see a token.
std::vector<double> ReferenceScores(const DenseLayer& layer, int64_t length, const Query& query);

struct ReferenceOutput {
  std::vector<double> output;  // [num_tokens, num_query_heads, head_dim]
  std::vector<double> lse;     // [num_tokens, num_query_heads]
};
ReferenceOutput ReferenceAttend(const DenseLayer& layer, int64_t length, const Query& query);

}  // namespace kvattend::testing

#endif  // KVATTEND_TESTS_SUPPORT_REFERENCE_ATTENTION_H_
