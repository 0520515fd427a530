// Scores of queries against the keys of a layer, compressed and exact; softmax over them, and the
// best of them.
//
// Pointers are device memory but where said otherwise. Asynchronous on `stream`; arrays must live
// until the work is done.
#ifndef KVATTEND_KERNELS_CUDA_SCORES_H_
#define KVATTEND_KERNELS_CUDA_SCORES_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/part_codec.h"

namespace kvattend::cuda {

// Some of the tokens of a query over a layer of num_blocks * 64 + num_exact tokens.
struct ScoresLaunch {
  BlockCodec codec;
  const uint8_t* arena = nullptr;
  // Offsets of units in the arena.
  const uint64_t* blocks = nullptr;
  const uint64_t* pages = nullptr;
  int num_blocks = 0;
  int num_exact = 0;
  int num_kv_heads = 0;
  int num_query_heads = 0;
  // Of the query; this launch does those from first_token to last_token - 1.
  int num_query_tokens = 0;
  int first_token = 0;
  int last_token = 0;
  int start_position = 0;
  float scale = 0.0f;
  // float32 [last_token - first_token, num_query_heads, head_dim]; aligned to 16 bytes.
  const float* query = nullptr;
  // float32 [last_token - first_token, num_query_heads, width()].
  float* scores = nullptr;

  KVATTEND_HOST_DEVICE int length() const { return num_blocks * kTokensPerBlock + num_exact; }
  KVATTEND_HOST_DEVICE int width() const { return length() - start_position; }
  KVATTEND_HOST_DEVICE int num_rows() const { return (last_token - first_token) * num_query_heads; }
  // How many scores of a row are of tokens that it sees.
  KVATTEND_HOST_DEVICE int num_seen(int row) const {
    return width() - num_query_tokens + first_token + row / num_query_heads + 1;
  }
};

// scale * q.k; -infinity where a row may not see. cudaErrorInvalidValue for another head_dim than
// 64, 128 or 256.
cudaError_t LaunchScores(const ScoresLaunch& launch, cudaStream_t stream);

// Turns rows of scores into probabilities: exp(score - lse). In place.
cudaError_t LaunchSoftmax(const ScoresLaunch& launch, cudaStream_t stream);

struct TopKLaunch {
  ScoresLaunch scores;
  // Results a row: at most width().
  int k = 0;
  // What stands where a row sees fewer tokens.
  float unseen = 0.0f;
  // Scratch [num_rows][TopKScratch(k)].
  uint64_t* scratch = nullptr;
  // [num_rows][k] each; may be pinned memory of the host.
  float* top_scores = nullptr;
  int64_t* top_positions = nullptr;
};
// Elements of scratch that a row takes: k, rounded up to a power of two.
int TopKScratch(int k);
// The best scores, descending; equal ones by ascending position; NaNs last.
cudaError_t LaunchTopK(const TopKLaunch& launch, cudaStream_t stream);

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_SCORES_H_
