// Staging memory for tests that need no backend.
#ifndef KVATTEND_TESTS_SERVER_RPC_HEAP_STAGING_H_
#define KVATTEND_TESTS_SERVER_RPC_HEAP_STAGING_H_

#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace kvattend {

// 64-byte aligned, every byte 0xff, which is NaN in every type.
inline absl::StatusOr<StagingBuffer> HeapStaging(size_t size_bytes) {
  const size_t padded = (size_bytes + 63) / 64 * 64;
  auto* bytes = static_cast<std::byte*>(std::aligned_alloc(64, padded));
  std::memset(bytes, 0xff, padded);
  return StagingBuffer(bytes, [](std::byte* memory) { std::free(memory); });
}

}  // namespace kvattend

#endif  // KVATTEND_TESTS_SERVER_RPC_HEAP_STAGING_H_
