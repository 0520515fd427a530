// The largest of many scores.
#ifndef KVATTEND_KERNELS_CPU_TOP_K_H_
#define KVATTEND_KERNELS_CPU_TOP_K_H_

#include <cstdint>

#include "absl/types/span.h"

namespace kvattend {

// Writes the min(k, scores.size()) largest scores and first_position plus their indices, scores
// descending, equal ones by ascending position; returns how many. Thread-safe.
int64_t SelectTopK(absl::Span<const float> scores, int64_t first_position, int64_t k,
                   float* top_scores, int64_t* top_positions);

}  // namespace kvattend

#endif  // KVATTEND_KERNELS_CPU_TOP_K_H_
