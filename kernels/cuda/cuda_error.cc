#include "kernels/cuda/cuda_error.h"

#include "absl/strings/str_cat.h"

namespace kvattend::cuda {

absl::Status CudaStatus(cudaError_t error, const char* call, const char* file, int line) {
  if (error == cudaSuccess) return absl::OkStatus();
  // Errors that are no fault would otherwise be seen again by the next call that asks.
  cudaGetLastError();
  const std::string message = absl::StrCat(cudaGetErrorName(error), " (", cudaGetErrorString(error),
                                           ") from ", call, " at ", file, ":", line);
  switch (error) {
    case cudaErrorMemoryAllocation:
      return absl::ResourceExhaustedError(message);
    case cudaErrorNotSupported:
      return absl::UnimplementedError(message);
    default:
      return absl::UnavailableError(absl::StrCat("device fault: ", message));
  }
}

}  // namespace kvattend::cuda
