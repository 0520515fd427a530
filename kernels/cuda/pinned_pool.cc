#include "kernels/cuda/pinned_pool.h"

#include <algorithm>
#include <bit>

#include "absl/strings/str_cat.h"

namespace kvattend::cuda {

absl::StatusOr<PinnedPool::Buffer> PinnedPool::Allocate(size_t size_bytes) {
  const size_t wanted = std::max(size_bytes, kMinBytes);
  const int size_class = std::bit_width((wanted - 1) / kMinBytes);
  if (size_class >= kNumClasses) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for ", size_bytes, " bytes"));
  }
  PinnedBuffer buffer;
  {
    std::lock_guard lock(mutex_);
    if (!free_[size_class].empty()) {
      buffer = std::move(free_[size_class].back());
      free_[size_class].pop_back();
      kept_bytes_ -= buffer.size_bytes();
    }
  }
  if (buffer.data() == nullptr) {
    KVATTEND_ASSIGN_OR_RETURN(buffer, PinnedBuffer::Create(kMinBytes << size_class));
  }
  std::byte* const data = buffer.data();
  // The deleter must be copyable; the buffer is not.
  auto owner = std::make_shared<PinnedBuffer>(std::move(buffer));
  return Buffer(data,
                [this, size_class, owner](std::byte*) { GiveBack(size_class, std::move(*owner)); });
}

void PinnedPool::GiveBack(int size_class, PinnedBuffer buffer) {
  std::lock_guard lock(mutex_);
  if (kept_bytes_ + buffer.size_bytes() > kMaxKeptBytes) return;
  kept_bytes_ += buffer.size_bytes();
  free_[size_class].push_back(std::move(buffer));
}

absl::StatusOr<std::byte*> PinnedArena::AllocateBytes(size_t size_bytes) {
  constexpr size_t kAlignment = 64;
  constexpr size_t kChunkBytes = size_t{1} << 20;
  for (; chunk_ < chunks_.size(); ++chunk_, used_bytes_ = 0) {
    if (chunks_[chunk_].size_bytes() - used_bytes_ < size_bytes) continue;
    std::byte* const data = chunks_[chunk_].data() + used_bytes_;
    used_bytes_ += std::min((size_bytes + kAlignment - 1) / kAlignment * kAlignment,
                            chunks_[chunk_].size_bytes() - used_bytes_);
    return data;
  }
  KVATTEND_ASSIGN_OR_RETURN(PinnedBuffer chunk,
                            PinnedBuffer::Create(std::max(kChunkBytes, std::bit_ceil(size_bytes))));
  chunks_.push_back(std::move(chunk));
  return AllocateBytes(size_bytes);
}

void PinnedArena::Reset() {
  chunk_ = 0;
  used_bytes_ = 0;
}

}  // namespace kvattend::cuda
