// Attention and scores over layers in the arena: gathers what the kernels need, and launches them.
#ifndef KVATTEND_KERNELS_CUDA_CUDA_ATTENTION_H_
#define KVATTEND_KERNELS_CUDA_CUDA_ATTENTION_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/cuda/attend.h"
#include "kernels/cuda/attend_plan.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/scores.h"
#include "kernels/cuda/upload_buffer.h"

namespace kvattend::cuda {

// Thread-compatible. Calls enqueue their last launches without waiting for them: the caller
// synchronises the stream before the next call, and before it reads results.
class CudaAttention {
 public:
  // Both outlive the object.
  CudaAttention(const Stream* stream, const DeviceBuffer* arena)
      : stream_(*stream), arena_buffer_(*arena) {}

  // Before the first call of the others, once stream and arena are there.
  absl::Status Initialise();

  // RESOURCE_EXHAUSTED where scratch memory cannot be had.
  absl::Status Attend(absl::Span<const kvattend::AttendTask> tasks);
  absl::Status ComputeScores(absl::Span<const ScoreTask> tasks);

 private:
  using TaskPointers = absl::Span<const kvattend::AttendTask* const>;

  // Tasks of one codec whose queries take as many column tiles.
  absl::Status AttendGroup(TaskPointers tasks);
  // The same for a codec that has no kernel: blocks are first decoded to float16.
  absl::Status AttendDecoded(TaskPointers tasks);
  absl::Status LaunchPlan(const CodecSpec& codec, TaskPointers tasks,
                          absl::Span<const uint64_t> blocks);
  // Copies queries to the device, in the order of tasks.
  absl::Status CopyQueries(TaskPointers tasks);

  absl::Status ComputeScores(const ScoreTask& task);
  absl::Status FinishScores(const ScoreTask& task, const ScoresLaunch& launch);

  uint8_t* arena() const { return arena_buffer_.as<uint8_t>(); }

  const Stream& stream_;
  const DeviceBuffer& arena_buffer_;
  // What never changes of launches.
  AttendLaunch device_;
  DeviceBuffer next_task_;

  UploadBuffer upload_;
  AttendPlan plan_;
  DeviceBuffer queries_;
  DeviceBuffer partials_;
  DeviceBuffer decoded_;
  DeviceBuffer scores_;
  DeviceBuffer chosen_;
};

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_CUDA_ATTENTION_H_
