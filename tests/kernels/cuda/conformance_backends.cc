#include "kernels/cuda/cuda_backend.h"
#include "tests/kernels/conformance/conformance.h"

namespace kvattend::testing {

std::vector<ConformanceBackend> ConformanceBackends() {
  if (!FindCudaDevice().ok()) return {};
  return {
      {.name = "CUDA",
       .create = [](uint64_t arena_bytes,
                    int num_threads) { return CreateCudaBackend({.arena_bytes = arena_bytes}); },
       // Tensor cores multiply queries of 16 bits and probabilities of fewer.
       .tolerance = 2e-3,
       .large_score_tolerance = 5e-3}};
}

// Says why there are no other tests.
TEST(CudaConformanceTest, HasADevice) {
  const auto device = FindCudaDevice();
  if (!device.ok()) GTEST_SKIP() << device.status().message();
}

}  // namespace kvattend::testing
