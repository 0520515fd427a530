// Which backend a server has: CUDA where there is a GPU and this build knows CUDA, else the CPU.
#ifndef KVATTEND_SERVER_BACKEND_CHOICE_H_
#define KVATTEND_SERVER_BACKEND_CHOICE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "server/options.h"

namespace kvattend {

// The backend that `options` ask for. `on_fault` is called when its device has failed for good; see
// CudaBackendOptions. UNIMPLEMENTED for a device that this build lacks, NOT_FOUND for one that this
// machine lacks, RESOURCE_EXHAUSTED where the memory cannot be had. Where there is a GPU, `auto`
// does not fall back to the CPU for an error.
absl::StatusOr<std::unique_ptr<Backend>> MakeBackend(
    const ServerOptions& options, std::function<void(const absl::Status&)> on_fault);

// What this build lacks: "cuda" or nothing.
std::vector<std::string> MissingCapabilities();

}  // namespace kvattend

#endif  // KVATTEND_SERVER_BACKEND_CHOICE_H_
