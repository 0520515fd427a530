// Owners of CUDA's resources: memory of the device, pinned memory of the host, streams.
//
// Movable; the moved-from owner is empty. Creation and destruction may synchronise with the device:
// not for hot paths. Thread-compatible.
#ifndef KVATTEND_KERNELS_CUDA_DEVICE_MEMORY_H_
#define KVATTEND_KERNELS_CUDA_DEVICE_MEMORY_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cuda/cuda_error.h"

namespace kvattend::cuda {

// Uninitialised memory, aligned to 256 bytes at least.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  // RESOURCE_EXHAUSTED where there is not as much.
  static absl::StatusOr<DeviceBuffer> Create(size_t size_bytes);

  std::byte* data() const { return data_.get(); }
  size_t size_bytes() const { return size_bytes_; }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data_.get());
  }

 private:
  struct Free {
    void operator()(std::byte* data) const { cudaFree(data); }
  };
  std::unique_ptr<std::byte[], Free> data_;
  size_t size_bytes_ = 0;
};

// Makes `buffer` hold `size_bytes` at least; what it held is lost if it grows. Nothing may be using
// it.
absl::Status Grow(size_t size_bytes, DeviceBuffer& buffer);

// The same of the host, which the device reads and writes at the same address.
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  static absl::StatusOr<PinnedBuffer> Create(size_t size_bytes);

  std::byte* data() const { return data_.get(); }
  size_t size_bytes() const { return size_bytes_; }

 private:
  struct Free {
    void operator()(std::byte* data) const { cudaFreeHost(data); }
  };
  std::unique_ptr<std::byte[], Free> data_;
  size_t size_bytes_ = 0;
};

// A stream that does not wait for the default one.
class Stream {
 public:
  static absl::StatusOr<Stream> Create();

  cudaStream_t get() const { return stream_.get(); }
  // Blocks until all work is done; reports what went wrong in it.
  absl::Status Synchronize() const { return KVATTEND_CUDA_STATUS(cudaStreamSynchronize(get())); }

 private:
  struct Destroy {
    void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
  };
  std::unique_ptr<std::remove_pointer_t<cudaStream_t>, Destroy> stream_;
};

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_DEVICE_MEMORY_H_
