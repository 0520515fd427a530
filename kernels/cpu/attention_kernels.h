// Attention over one split of a sequence for the query rows of one KV head, compiled for several
// instruction sets and chosen at run time.
//
// A split is up to kSplitTokens consecutive tokens whose first is a multiple of kSplitTokens. A row
// is one query head of one query token. The arithmetic of a row does not depend on which other rows
// it is computed with.
//
// Thread-safe: pure functions over what they are given; one AttentionScratch per thread.
#ifndef KVATTEND_KERNELS_CPU_ATTENTION_KERNELS_H_
#define KVATTEND_KERNELS_CPU_ATTENTION_KERNELS_H_

#include <cstdint>

#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/cpu/native_block.h"

namespace kvattend {

inline constexpr int kSplitTokens = 1024;
inline constexpr int kSplitSegments = kSplitTokens / kBlockTokens;
// Rows of one call. More rows would share the expansion of a block among more, but the scores of a
// split should stay in the second-level cache.
inline constexpr int kMaxRows = 64;

// 64 tokens of one KV head: a block, or up to four pages.
struct Segment {
  // Native parts; null for pages.
  const uint8_t* keys = nullptr;
  const uint8_t* values = nullptr;
  // Where there is no block: float16 [head_dim][16] and [16][head_dim].
  const uint16_t* page_keys[kBlockTokens / kPageTokens] = {};
  const uint16_t* page_values[kBlockTokens / kPageTokens] = {};
  // 64 for a block; the others' scores are not looked at.
  int num_tokens = 0;
};

// Tokens of the split that a row sees, counted from the split's first; may be empty.
struct RowRange {
  int begin = 0;
  int end = 0;
};

struct SplitTask {
  const NativePart* keys = nullptr;
  const NativePart* values = nullptr;
  // Of the whole split, from its first token.
  absl::Span<const Segment> segments;
  // Those that no row sees need not be computed: the range of segments that some row does.
  int first_segment = 0;
  int num_rows = 0;
  // [num_rows] of float32 [head_dim].
  const float* const* queries = nullptr;
  const RowRange* ranges = nullptr;
  // What a dot product is multiplied with.
  float factor = 1.0f;
};

// With factor = scale * log2(e): 2^(score - max) summed over a row's tokens, and weighted by them
// the sum of values. A row that sees no token has max = -infinity and zeros.
struct SplitResult {
  float* max = nullptr;     // [num_rows]
  float* sum = nullptr;     // [num_rows]
  float* output = nullptr;  // [num_rows][head_dim]
};

struct AttentionScratch;

struct AttentionKernels {
  void (*attend_split)(const SplitTask& task, AttentionScratch& scratch, const SplitResult& result);
  // scores[row] gets the scores of the tokens in the row's range.
  void (*score_split)(const SplitTask& task, AttentionScratch& scratch, float* const* scores);
  // Merges the results of `num_splits` splits for the row that `first` points to, in order: their
  // max and sum are row_stride floats apart, their outputs output_stride. Gives the output of
  // attention and the natural logarithm of the sum of exponentials.
  void (*merge)(const SplitResult& first, int num_splits, int64_t row_stride, int64_t output_stride,
                int head_dim, float* output, float* lse);
  // scores[i] = 2^scores[i] over their sum.
  void (*softmax)(float* scores, int64_t count);
  // Highway's name of the instruction set.
  const char* target_name;
};

// Those of the best instruction set that this machine has (and that hwy::SetSupportedTargetsForTest
// allows).
const AttentionKernels& ChooseAttentionKernels();

}  // namespace kvattend

#endif  // KVATTEND_KERNELS_CPU_ATTENTION_KERNELS_H_
