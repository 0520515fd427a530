#include "kernels/cuda/attend_formats.h"
#include "kernels/cuda/attend_launch.cuh"

namespace kvattend::cuda {

cudaError_t LaunchSparse4Sparse2(const AttendLaunch& launch, cudaStream_t stream) {
  return LaunchFormats<PartFormat<4, true>, PartFormat<2, true>>(launch, stream);
}

}  // namespace kvattend::cuda
