// Tasks of a call by what one launch of a kernel has in common.
#ifndef KVATTEND_KERNELS_CUDA_TASK_GROUPS_H_
#define KVATTEND_KERNELS_CUDA_TASK_GROUPS_H_

#include <algorithm>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/base/status_macros.h"

namespace kvattend::cuda {

// An order of shapes in which equal ones are neighbours.
inline auto ShapeKey(const CodecSpec& codec) {
  return std::make_tuple(codec.head_dim, codec.keys.kept, codec.keys.bits, codec.values.kept,
                         codec.values.bits);
}
inline auto ShapeKey(const LayerShape& shape) {
  return std::tuple_cat(std::make_tuple(shape.num_kv_heads), ShapeKey(shape.codec));
}

// Calls launch(absl::Span<const Task* const>) for every group of tasks of equal key_of(task). Stops
// at the first error and returns it.
template <typename Task, typename KeyOf, typename Launch>
absl::Status ForEachGroup(absl::Span<const Task> tasks, const KeyOf& key_of, const Launch& launch) {
  std::vector<const Task*> sorted;
  sorted.reserve(tasks.size());
  for (const Task& task : tasks) sorted.push_back(&task);
  const auto before = [&](const Task* a, const Task* b) { return key_of(*a) < key_of(*b); };
  if (!std::is_sorted(sorted.begin(), sorted.end(), before)) {
    std::stable_sort(sorted.begin(), sorted.end(), before);
  }
  for (auto begin = sorted.begin(); begin != sorted.end();) {
    const auto end = std::upper_bound(begin, sorted.end(), *begin, before);
    KVATTEND_RETURN_IF_ERROR(launch(absl::MakeConstSpan(&*begin, end - begin)));
    begin = end;
  }
  return absl::OkStatus();
}

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_TASK_GROUPS_H_
