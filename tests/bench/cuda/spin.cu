#include "tests/bench/cuda/spin.h"

namespace kvattend::bench {
namespace {

__global__ void Spin(long long cycles) {
  const long long begin = clock64();
  while (clock64() - begin < cycles) {
  }
}

}  // namespace

cudaError_t LaunchSpin(cudaStream_t stream) {
  Spin<<<1, 1, 0, stream>>>(100000);
  return cudaGetLastError();
}

}  // namespace kvattend::bench
