#include "hwy/targets.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/kernels/conformance/conformance.h"

namespace kvattend::testing {

// One for every instruction set that the kernels were built for and this CPU has.
std::vector<ConformanceBackend> ConformanceBackends() {
  std::vector<ConformanceBackend> backends;
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    backends.push_back({hwy::TargetName(target), [target](uint64_t arena_bytes, int num_threads) {
                          hwy::SetSupportedTargetsForTest(target);
                          auto backend = CpuBackend::Create({arena_bytes, num_threads});
                          hwy::SetSupportedTargetsForTest(0);
                          return absl::StatusOr<std::unique_ptr<Backend>>(std::move(backend));
                        }});
  }
  return backends;
}

}  // namespace kvattend::testing
