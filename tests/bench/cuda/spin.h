// Keeps the device busy for a while, so that what is launched next waits in the queue and its
// timing has no share of the host's.
#ifndef KVATTEND_TESTS_BENCH_CUDA_SPIN_H_
#define KVATTEND_TESTS_BENCH_CUDA_SPIN_H_

#include <cuda_runtime_api.h>

namespace kvattend::bench {

// About 60 microseconds. Asynchronous.
cudaError_t LaunchSpin(cudaStream_t stream);

}  // namespace kvattend::bench

#endif  // KVATTEND_TESTS_BENCH_CUDA_SPIN_H_
