#include "kernels/cuda/device_memory.h"

#include <algorithm>
#include <bit>

namespace kvattend::cuda {

absl::StatusOr<DeviceBuffer> DeviceBuffer::Create(size_t size_bytes) {
  void* data = nullptr;
  KVATTEND_RETURN_IF_CUDA_ERROR(cudaMalloc(&data, std::max<size_t>(size_bytes, 1)));
  DeviceBuffer buffer;
  buffer.data_.reset(static_cast<std::byte*>(data));
  buffer.size_bytes_ = size_bytes;
  return buffer;
}

absl::Status Grow(size_t size_bytes, DeviceBuffer& buffer) {
  if (size_bytes <= buffer.size_bytes()) return absl::OkStatus();
  buffer = DeviceBuffer();
  // Powers of two, so that this happens seldom.
  KVATTEND_ASSIGN_OR_RETURN(buffer, DeviceBuffer::Create(std::bit_ceil(size_bytes)));
  return absl::OkStatus();
}

absl::StatusOr<PinnedBuffer> PinnedBuffer::Create(size_t size_bytes) {
  void* data = nullptr;
  KVATTEND_RETURN_IF_CUDA_ERROR(
      cudaHostAlloc(&data, std::max<size_t>(size_bytes, 1), cudaHostAllocPortable));
  PinnedBuffer buffer;
  buffer.data_.reset(static_cast<std::byte*>(data));
  buffer.size_bytes_ = size_bytes;
  return buffer;
}

absl::StatusOr<Stream> Stream::Create() {
  cudaStream_t handle = nullptr;
  KVATTEND_RETURN_IF_CUDA_ERROR(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking));
  Stream stream;
  stream.stream_.reset(handle);
  return stream;
}

}  // namespace kvattend::cuda
