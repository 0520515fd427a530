#include "server/backend_choice.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "kernels/cpu/cpu_backend.h"
#ifdef KVATTEND_HAS_CUDA
#include "kernels/cuda/cuda_backend.h"
#endif

namespace kvattend {
namespace {

// What this process may use: the machine's memory, or less where it is in a container.
int64_t AvailableMemoryBytes() {
  int64_t bytes = int64_t{sysconf(_SC_PHYS_PAGES)} * getpagesize();
  // "max" where there is no limit.
  std::ifstream cgroup_limit("/sys/fs/cgroup/memory.max");
  if (int64_t limit = 0; cgroup_limit >> limit) bytes = std::min(bytes, limit);
  return bytes;
}

// `size`, of a device that has `device_bytes`.
uint64_t MemoryBytes(const MemorySize& size, int64_t device_bytes) {
  if (size.share == 0.0) return static_cast<uint64_t>(size.bytes);
  return static_cast<uint64_t>(static_cast<double>(device_bytes) * size.share);
}

absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(const ServerOptions& options) {
  KVATTEND_ASSIGN_OR_RETURN(
      std::unique_ptr<Backend> backend,
      CpuBackend::Create({.arena_bytes = MemoryBytes(options.kv_memory, AvailableMemoryBytes()),
                          .num_threads = options.num_threads}));
  return backend;
}

}  // namespace

#ifdef KVATTEND_HAS_CUDA

absl::StatusOr<std::unique_ptr<Backend>> MakeBackend(
    const ServerOptions& options, std::function<void(const absl::Status&)> on_fault) {
  if (options.device == DeviceChoice::kCpu) return MakeCpuBackend(options);
  const absl::StatusOr<CudaDevice> device = FindCudaDevice();
  if (absl::IsNotFound(device.status()) && options.device == DeviceChoice::kAuto) {
    return MakeCpuBackend(options);
  }
  if (!device.ok()) {
    return absl::Status(device.status().code(),
                        absl::StrCat("--device: ", device.status().message()));
  }
  return CreateCudaBackend(
      {.arena_bytes = MemoryBytes(options.kv_memory, static_cast<int64_t>(device->memory_bytes)),
       .on_fault = std::move(on_fault)});
}

std::vector<std::string> MissingCapabilities() { return {}; }

#else

absl::StatusOr<std::unique_ptr<Backend>> MakeBackend(const ServerOptions& options,
                                                     std::function<void(const absl::Status&)>) {
  if (options.device == DeviceChoice::kCuda) {
    return absl::UnimplementedError("--device=cuda: this build has no CUDA backend; it has: cpu");
  }
  return MakeCpuBackend(options);
}

std::vector<std::string> MissingCapabilities() { return {"cuda"}; }

#endif

}  // namespace kvattend
