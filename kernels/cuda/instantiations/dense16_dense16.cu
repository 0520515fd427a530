#include "kernels/cuda/attend_formats.h"
#include "kernels/cuda/attend_launch.cuh"

namespace kvattend::cuda {

cudaError_t LaunchDense16Dense16(const AttendLaunch& launch, cudaStream_t stream) {
  return LaunchFormats<PartFormat<16, false>, PartFormat<16, false>>(launch, stream);
}

}  // namespace kvattend::cuda
