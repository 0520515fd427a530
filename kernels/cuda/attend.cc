#include "kernels/cuda/attend.h"

#include "kernels/cuda/attend_formats.h"

namespace kvattend::cuda {
namespace {

using LaunchFunction = cudaError_t (*)(const AttendLaunch& launch, cudaStream_t stream);

struct Entry {
  int key_bits;
  bool sparse_keys;
  int value_bits;
  bool sparse_values;
  LaunchFunction launch;
};

// The formats of the presets.
constexpr Entry kEntries[] = {
    {4, true, 2, false, LaunchSparse4Dense2},     {2, true, 2, true, LaunchSparse2Sparse2},
    {4, true, 2, true, LaunchSparse4Sparse2},     {16, false, 16, false, LaunchDense16Dense16},
    {16, true, 16, true, LaunchSparse16Sparse16}, {4, true, 4, true, LaunchSparse4Sparse4},
    {8, false, 8, false, LaunchDense8Dense8},     {4, false, 4, false, LaunchDense4Dense4},
    {2, false, 2, false, LaunchDense2Dense2},
};

}  // namespace

cudaError_t LaunchAttend(const AttendLaunch& launch, cudaStream_t stream) {
  for (const Entry& entry : kEntries) {
    if (entry.key_bits == launch.keys.bits && entry.sparse_keys == launch.keys.is_sparse() &&
        entry.value_bits == launch.values.bits &&
        entry.sparse_values == launch.values.is_sparse()) {
      return entry.launch(launch, stream);
    }
  }
  return cudaErrorNotSupported;
}

}  // namespace kvattend::cuda
