// CUDA's errors as absl::Status: UNAVAILABLE "device fault: ..." but for memory that cannot be had
// (RESOURCE_EXHAUSTED) and kernels that were not built (UNIMPLEMENTED). Messages name the call, its
// file and line.
//
// Thread-safe: pure functions.
#ifndef KVATTEND_KERNELS_CUDA_CUDA_ERROR_H_
#define KVATTEND_KERNELS_CUDA_CUDA_ERROR_H_

#include <cuda_runtime_api.h>

#include "absl/status/status.h"
#include "kernels/base/status_macros.h"

namespace kvattend::cuda {

absl::Status CudaStatus(cudaError_t error, const char* call, const char* file, int line);

}  // namespace kvattend::cuda

// The status of a call to CUDA's runtime, or to a launch function.
#define KVATTEND_CUDA_STATUS(call) ::kvattend::cuda::CudaStatus((call), #call, __FILE__, __LINE__)
// Returns it from the enclosing function unless it is OK.
#define KVATTEND_RETURN_IF_CUDA_ERROR(call) KVATTEND_RETURN_IF_ERROR(KVATTEND_CUDA_STATUS(call))

#endif  // KVATTEND_KERNELS_CUDA_CUDA_ERROR_H_
