// The attend kernels that are built, one launch function for each pair of formats: keys, then
// values.
#ifndef KVATTEND_KERNELS_CUDA_ATTEND_FORMATS_H_
#define KVATTEND_KERNELS_CUDA_ATTEND_FORMATS_H_

#include <cuda_runtime_api.h>

#include "kernels/cuda/attend.h"

namespace kvattend::cuda {

cudaError_t LaunchSparse4Dense2(const AttendLaunch& launch, cudaStream_t stream);
cudaError_t LaunchSparse2Sparse2(const AttendLaunch& launch, cudaStream_t stream);
cudaError_t LaunchSparse4Sparse2(const AttendLaunch& launch, cudaStream_t stream);
cudaError_t LaunchDense16Dense16(const AttendLaunch& launch, cudaStream_t stream);
cudaError_t LaunchSparse16Sparse16(const AttendLaunch& launch, cudaStream_t stream);
cudaError_t LaunchSparse4Sparse4(const AttendLaunch& launch, cudaStream_t stream);
cudaError_t LaunchDense8Dense8(const AttendLaunch& launch, cudaStream_t stream);
cudaError_t LaunchDense4Dense4(const AttendLaunch& launch, cudaStream_t stream);
cudaError_t LaunchDense2Dense2(const AttendLaunch& launch, cudaStream_t stream);

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_ATTEND_FORMATS_H_
