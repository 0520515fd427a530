// The backend for machines without a GPU: Highway SIMD, the instruction set chosen at run time.
#ifndef KVATTEND_KERNELS_CPU_CPU_BACKEND_H_
#define KVATTEND_KERNELS_CPU_CPU_BACKEND_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/cpu/arena.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/thread_pool.h"

namespace kvattend {

struct CpuBackendOptions {
  // Address space is taken at once, memory as units are first written.
  uint64_t arena_bytes = uint64_t{1} << 30;
  // Threads that work on a call, its caller among them. 0: one for each core this process may use.
  int num_threads = 0;
};

// Threads and errors as Backend says. Results do not depend on the number of threads, bit for bit.
class CpuBackend final : public Backend {
 public:
  // RESOURCE_EXHAUSTED where the arena cannot be had.
  static absl::StatusOr<std::unique_ptr<CpuBackend>> Create(const CpuBackendOptions& options);

  const DeviceInfo& device() const override { return device_; }
  uint64_t arena_bytes() const override { return arena_.size_bytes(); }
  size_t BlockBytes(const LayerShape& shape) const override;
  size_t PageBytes(const LayerShape& shape) const override;
  absl::StatusOr<StagingBuffer> AllocateStaging(size_t size_bytes) override;

  absl::Status Append(absl::Span<const CompressTask> compress,
                      absl::Span<const WritePageTask> write) override;
  absl::Status CopyPages(absl::Span<const CopyPageTask> tasks) override;
  absl::Status Recode(absl::Span<const RecodeTask> tasks) override;
  absl::Status Attend(absl::Span<const AttendTask> tasks) override;
  absl::Status ComputeScores(absl::Span<const ScoreTask> tasks) override;

  absl::Status ReadBlocks(const LayerShape& shape, absl::Span<const uint64_t> blocks,
                          uint8_t* canonical) override;
  absl::Status WriteBlocks(const LayerShape& shape, absl::Span<const uint64_t> blocks,
                           const uint8_t* canonical) override;
  absl::Status Encode(const LayerShape& shape, int64_t num_tokens, const uint16_t* keys,
                      const uint16_t* values, uint8_t* canonical) override;
  absl::Status Decode(const LayerShape& shape, int64_t num_tokens, const uint8_t* canonical,
                      float* keys, float* values) override;

  absl::StatusOr<mustafar::Tiles> CompressTiles(const mustafar::TileSpec& spec,
                                                absl::Span<const uint16_t> dense) override;
  absl::StatusOr<std::vector<float>> DecompressTiles(const mustafar::Tiles& tiles) override;
  absl::StatusOr<std::vector<float>> TileScores(const mustafar::Tiles& key_tiles,
                                                absl::Span<const uint16_t> queries) override;
  absl::StatusOr<std::vector<float>> TileOutputs(const mustafar::Tiles& value_tiles,
                                                 absl::Span<const float> weights) override;

 private:
  CpuBackend(const AttentionKernels& kernels, Arena arena, int num_threads);

  uint16_t* page(uint64_t offset) const {
    return reinterpret_cast<uint16_t*>(arena_.data() + offset);
  }

  Arena arena_;
  ThreadPool pool_;
  Attention attention_;
  DeviceInfo device_;
};

}  // namespace kvattend

#endif  // KVATTEND_KERNELS_CPU_CPU_BACKEND_H_
