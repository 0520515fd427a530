// The backend for NVIDIA GPUs: one device, one stream.
#ifndef KVATTEND_KERNELS_CUDA_CUDA_BACKEND_H_
#define KVATTEND_KERNELS_CUDA_CUDA_BACKEND_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace kvattend {

// The GPU that a CudaBackend will use: the first that the process sees.
struct CudaDevice {
  std::string name;
  uint64_t memory_bytes = 0;
};
// NOT_FOUND, saying why, where there is none, or no driver for it.
absl::StatusOr<CudaDevice> FindCudaDevice();

struct CudaBackendOptions {
  // Of the device; taken at once.
  uint64_t arena_bytes = uint64_t{1} << 30;
  // Called at the first device fault, with it, on the thread of the call that found it.
  std::function<void(const absl::Status&)> on_fault;
};

// RESOURCE_EXHAUSTED where the device has not as much memory, UNAVAILABLE where it fails. The first
// device fault stays: every later call is UNAVAILABLE, health() says so, and only another process
// can use the device again. Results do not depend on what is in a call besides, bit for bit.
absl::StatusOr<std::unique_ptr<Backend>> CreateCudaBackend(const CudaBackendOptions& options);

}  // namespace kvattend

#endif  // KVATTEND_KERNELS_CUDA_CUDA_BACKEND_H_
