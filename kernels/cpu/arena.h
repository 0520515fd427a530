// The CPU backend's arena: one anonymous mapping.
#ifndef KVATTEND_KERNELS_CPU_ARENA_H_
#define KVATTEND_KERNELS_CPU_ARENA_H_

#include <cstdint>

#include "absl/status/statusor.h"

namespace kvattend {

// Memory is taken from the system page by page when it is first touched, in huge pages where the
// system has them. Thread-safe: it only hands out its address.
class Arena {
 public:
  // RESOURCE_EXHAUSTED where the address space cannot be had.
  static absl::StatusOr<Arena> Create(uint64_t size_bytes);
  ~Arena();
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&& other) noexcept;

  uint8_t* data() const { return data_; }
  uint64_t size_bytes() const { return size_bytes_; }

 private:
  Arena(uint8_t* data, uint64_t size_bytes) : data_(data), size_bytes_(size_bytes) {}

  uint8_t* data_ = nullptr;
  uint64_t size_bytes_ = 0;
};

}  // namespace kvattend

#endif  // KVATTEND_KERNELS_CPU_ARENA_H_
