// The peer of the benchmark: attention over a dense float16 cache, as good as this machine allows.
//
// Written with the same SIMD library for the same threads, in the layout that suits it best:
// float32 FMA on converted halves, no horizontal sums, online softmax, all query heads of a KV head
// share every load.
#ifndef KVATTEND_TESTS_BENCH_DENSE_ATTENTION_H_
#define KVATTEND_TESTS_BENCH_DENSE_ATTENTION_H_

#include <cstdint>
#include <vector>

#include "kernels/cpu/thread_pool.h"

namespace kvattend {

struct DenseCache {
  int num_kv_heads = 0;
  int head_dim = 0;
  // A multiple of 64.
  int64_t num_tokens = 0;
  // float16 [num_kv_heads][num_tokens / 64][head_dim][64]: a vector holds tokens.
  const uint16_t* keys = nullptr;
  // float16 [num_kv_heads][num_tokens][head_dim].
  const uint16_t* values = nullptr;
};

// What a thread computes of one KV head over some tokens.
struct DensePartial {
  static constexpr int kRows = 4;
  float max[kRows];
  float sum[kRows];
  alignas(64) float output[kRows * 256];
};

// One query token: queries and output float32 [num_query_heads, head_dim], num_query_heads four
// times num_kv_heads; lse [num_query_heads]. `partials` is memory to work in, to be kept for the
// next call.
void DenseAttend(const DenseCache& cache, const float* queries, float scale, ThreadPool& pool,
                 std::vector<DensePartial>* partials, float* output, float* lse);

}  // namespace kvattend

#endif  // KVATTEND_TESTS_BENCH_DENSE_ATTENTION_H_
