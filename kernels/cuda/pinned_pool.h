// Pinned memory that is used again and again: pinning takes milliseconds and stops the device.
#ifndef KVATTEND_KERNELS_CUDA_PINNED_POOL_H_
#define KVATTEND_KERNELS_CUDA_PINNED_POOL_H_

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/cuda/device_memory.h"

namespace kvattend::cuda {

// Thread-safe. Sizes are rounded up to powers of two; what is given back is kept for the next one
// who asks for that size, up to kMaxKeptBytes in all.
class PinnedPool {
 public:
  using Buffer = std::unique_ptr<std::byte[], std::function<void(std::byte*)>>;
  static constexpr size_t kMaxKeptBytes = size_t{4} << 30;

  PinnedPool() = default;
  PinnedPool(const PinnedPool&) = delete;
  PinnedPool& operator=(const PinnedPool&) = delete;

  // Must not outlive the pool.
  absl::StatusOr<Buffer> Allocate(size_t size_bytes);

 private:
  // Of 4 KiB to 2^47 bytes.
  static constexpr size_t kMinBytes = 4096;
  static constexpr int kNumClasses = 36;

  void GiveBack(int size_class, PinnedBuffer buffer);

  std::mutex mutex_;
  std::array<std::vector<PinnedBuffer>, kNumClasses> free_;
  size_t kept_bytes_ = 0;
};

// An allocator for the small arrays of one call to the backend, all given back at once.
// Thread-compatible.
class PinnedArena {
 public:
  // `count` objects, not initialised. Memory is taken only where earlier calls had too little.
  template <typename T>
  absl::StatusOr<T*> Allocate(size_t count) {
    KVATTEND_ASSIGN_OR_RETURN(std::byte * data, AllocateBytes(count * sizeof(T)));
    return reinterpret_cast<T*>(data);
  }
  // Takes all of it back.
  void Reset();

 private:
  absl::StatusOr<std::byte*> AllocateBytes(size_t size_bytes);

  std::vector<PinnedBuffer> chunks_;
  size_t chunk_ = 0;
  size_t used_bytes_ = 0;
};

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_PINNED_POOL_H_
