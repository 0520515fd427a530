#include "kernels/cuda/attend_formats.h"
#include "kernels/cuda/attend_launch.cuh"

namespace kvattend::cuda {

cudaError_t LaunchDense8Dense8(const AttendLaunch& launch, cudaStream_t stream) {
  return LaunchFormats<PartFormat<8, false>, PartFormat<8, false>>(launch, stream);
}

}  // namespace kvattend::cuda
