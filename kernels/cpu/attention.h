// Attention and scores of many tasks: cuts them into units, runs these on threads, merges.
//
// Results are bit-identical whatever the number of threads and the other tasks of the call.
#ifndef KVATTEND_KERNELS_CPU_ATTENTION_H_
#define KVATTEND_KERNELS_CPU_ATTENTION_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/attention_scratch.h"
#include "kernels/cpu/thread_pool.h"

namespace kvattend {

// Not thread-safe: one call at a time. The pool and the arena outlive it.
class Attention {
 public:
  Attention(const AttentionKernels& kernels, ThreadPool* pool, const uint8_t* arena);

  // As Backend's. RESOURCE_EXHAUSTED where there is no memory for what splits give before they are
  // merged.
  absl::Status Attend(absl::Span<const AttendTask> tasks);
  absl::Status ComputeScores(absl::Span<const ScoreTask> tasks);

 private:
  struct ScorePlan;

  // Floats for a wave of work, kept for the next one.
  absl::StatusOr<float*> Reserve(size_t size);
  void FinishScores(const ScoreTask& task, const ScorePlan& plan, size_t group);

  const AttentionKernels& kernels_;
  ThreadPool* const pool_;
  const uint8_t* const arena_;
  std::vector<std::unique_ptr<AttentionScratch>> scratch_;  // one for each thread
  std::unique_ptr<float[]> buffer_;
  size_t buffer_size_ = 0;
};

}  // namespace kvattend

#endif  // KVATTEND_KERNELS_CPU_ATTENTION_H_
