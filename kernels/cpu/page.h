// The CPU's layout of a page: for each KV head, float16 keys [head_dim][16], so that a vector holds
// tokens, then values [16][head_dim], so that a vector holds channels.
#ifndef KVATTEND_KERNELS_CPU_PAGE_H_
#define KVATTEND_KERNELS_CPU_PAGE_H_

#include <cstddef>
#include <cstdint>

#include "kernels/backend.h"

namespace kvattend {

// float16 values of one KV head's keys, or values.
constexpr size_t PagePartSize(int head_dim) { return static_cast<size_t>(head_dim) * kPageTokens; }

// The size of a page without padding.
constexpr size_t PageSizeBytes(const LayerShape& shape) {
  return 2 * shape.num_kv_heads * PagePartSize(shape.codec.head_dim) * sizeof(uint16_t);
}

// T is uint16_t or const uint16_t.
template <typename T>
T* PageKeys(T* page, int head_dim, int kv_head) {
  return page + 2 * kv_head * PagePartSize(head_dim);
}
template <typename T>
T* PageValues(T* page, int head_dim, int kv_head) {
  return page + (2 * kv_head + 1) * PagePartSize(head_dim);
}

}  // namespace kvattend

#endif  // KVATTEND_KERNELS_CPU_PAGE_H_
