#include "kernels/cuda/attend_formats.h"
#include "kernels/cuda/attend_launch.cuh"

namespace kvattend::cuda {

cudaError_t LaunchDense4Dense4(const AttendLaunch& launch, cudaStream_t stream) {
  return LaunchFormats<PartFormat<4, false>, PartFormat<4, false>>(launch, stream);
}

}  // namespace kvattend::cuda
