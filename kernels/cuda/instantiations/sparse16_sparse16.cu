#include "kernels/cuda/attend_formats.h"
#include "kernels/cuda/attend_launch.cuh"

namespace kvattend::cuda {

cudaError_t LaunchSparse16Sparse16(const AttendLaunch& launch, cudaStream_t stream) {
  return LaunchFormats<PartFormat<16, true>, PartFormat<16, true>>(launch, stream);
}

}  // namespace kvattend::cuda
