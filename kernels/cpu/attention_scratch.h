// What a thread needs while it works on a split. Some 500 KiB: one for each thread, kept.
#ifndef KVATTEND_KERNELS_CPU_ATTENTION_SCRATCH_H_
#define KVATTEND_KERNELS_CPU_ATTENTION_SCRATCH_H_

#include <cstdint>

#include "kernels/cpu/attention_kernels.h"

namespace kvattend {

// Reduction indices (channels of keys, tokens of values) that are expanded at a time to float16 or
// float32, of 64 lanes: little enough for the first-level cache.
inline constexpr int kChunk = 16;

struct AttentionScratch {
  // A part in quad order, one byte an element, and its codes as bytes before they are put in their
  // places; vector loads run up to a vector past the codes.
  alignas(64) uint8_t tile[kBlockTokens * kMaxHeadDim];
  alignas(64) uint8_t codes[kBlockTokens * kMaxHeadDim + 64];
  alignas(64) float float_chunk[kChunk * 64];
  alignas(64) uint16_t half_chunk[kChunk * 64];

  // [rows][head_dim]: queries as given; what a part is multiplied with, as float32 or as planes of
  // bytes (PackedRows in avx3_dl-inl.h).
  alignas(64) float queries[kMaxRows * kMaxHeadDim];
  alignas(64) float weights[kMaxRows * kMaxHeadDim];
  alignas(64) int8_t weight_bytes[kMaxRows * kMaxHeadDim * 3];
  alignas(64) float weight_unit[kMaxRows];
  int32_t weight_sum[kMaxRows];
  int32_t weight_top_sum[kMaxRows];
  uint64_t weight_top_quads[kMaxRows];

  // Of a block: 2^(e / 2) of each channel's exponent e, and the tokens' scales.
  alignas(64) float multipliers[kMaxHeadDim];
  alignas(64) float scales[kBlockTokens];

  // [rows][kSplitTokens]: scores, then probabilities.
  alignas(64) float scores[kMaxRows * kSplitTokens];
};

}  // namespace kvattend

#endif  // KVATTEND_KERNELS_CPU_ATTENTION_SCRATCH_H_
