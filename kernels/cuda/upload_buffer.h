// The small arrays that a launch needs on the device, sent there in one copy.
#ifndef KVATTEND_KERNELS_CUDA_UPLOAD_BUFFER_H_
#define KVATTEND_KERNELS_CUDA_UPLOAD_BUFFER_H_

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "kernels/base/check.h"
#include "kernels/cuda/device_memory.h"

namespace kvattend::cuda {

// Thread-compatible. Pinned memory that mirrors memory of the device.
class UploadBuffer {
 public:
  // What Add takes for an array.
  template <typename T>
  static constexpr size_t SizeOf(size_t count) {
    return (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
  }

  // Empties the buffer and makes room for arrays of SizeOf sums of `size_bytes`. Nothing that was
  // uploaded before may be in use.
  absl::Status Reserve(size_t size_bytes);

  // Adds an array; gives where it will be on the device.
  template <typename T>
  T* Add(absl::Span<const T> values) {
    const size_t at = used_bytes_;
    used_bytes_ += SizeOf<T>(values.size());
    KVATTEND_CHECK(used_bytes_ <= host_.size_bytes());
    std::copy(values.begin(), values.end(), reinterpret_cast<T*>(host_.data() + at));
    return reinterpret_cast<T*>(device_.data() + at);
  }

  // Asynchronous: copies all arrays to the device.
  absl::Status Upload(const Stream& stream) const {
    if (used_bytes_ == 0) return absl::OkStatus();
    return KVATTEND_CUDA_STATUS(cudaMemcpyAsync(device_.data(), host_.data(), used_bytes_,
                                                cudaMemcpyHostToDevice, stream.get()));
  }

 private:
  static constexpr size_t kAlignment = 64;

  PinnedBuffer host_;
  DeviceBuffer device_;
  size_t used_bytes_ = 0;
};

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_UPLOAD_BUFFER_H_
