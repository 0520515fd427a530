#include "kernels/cpu/arena.h"

#include <sys/mman.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace kvattend {

absl::StatusOr<Arena> Arena::Create(uint64_t size_bytes) {
  if (size_bytes == 0) return absl::InvalidArgumentError("an arena of 0 bytes");
  void* const data = mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot map an arena of ", size_bytes, " bytes"));
  }
  // Blocks lie anywhere, and each is shorter than a few pages: with 4 KiB pages most cost a miss in
  // the TLB. Only advice, so it may fail.
  (void)madvise(data, size_bytes, MADV_HUGEPAGE);
  return Arena(static_cast<uint8_t*>(data), size_bytes);
}

Arena::~Arena() {
  if (data_ != nullptr) munmap(data_, size_bytes_);
}

Arena::Arena(Arena&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_bytes_(std::exchange(other.size_bytes_, 0)) {}

Arena& Arena::operator=(Arena&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  return *this;
}

}  // namespace kvattend
