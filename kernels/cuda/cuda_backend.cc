#include "kernels/cuda/cuda_backend.h"

#include <algorithm>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "kernels/codec/block_layout.h"
#include "kernels/cuda/compress.h"
#include "kernels/cuda/convert.h"
#include "kernels/cuda/cuda_attention.h"
#include "kernels/cuda/cuda_error.h"
#include "kernels/cuda/cuda_tiles.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/pages.h"
#include "kernels/cuda/part_codec.h"
#include "kernels/cuda/pinned_pool.h"
#include "kernels/cuda/task_groups.h"

namespace kvattend {
namespace cuda {
namespace {

static_assert(kTokensPerBlock == kBlockTokens && kTokensPerPage == kPageTokens);

constexpr size_t RoundUpToUnit(size_t size) {
  return (size + Backend::kUnitAlignment - 1) / Backend::kUnitAlignment * Backend::kUnitAlignment;
}

size_t PageSizeBytes(const LayerShape& shape) {
  return static_cast<size_t>(shape.num_kv_heads) * PageHeadBytes(shape.codec.head_dim);
}

// Bytes of canonical blocks that are converted at a time.
constexpr size_t kScratchBytes = size_t{64} << 20;

class CudaBackend final : public Backend {
 public:
  static absl::StatusOr<std::unique_ptr<Backend>> Create(const CudaBackendOptions& options) {
    KVATTEND_ASSIGN_OR_RETURN(const CudaDevice device, FindCudaDevice());
    std::unique_ptr<CudaBackend> backend(new CudaBackend(device, options.on_fault));
    KVATTEND_ASSIGN_OR_RETURN(backend->stream_, Stream::Create());
    KVATTEND_ASSIGN_OR_RETURN(backend->arena_, DeviceBuffer::Create(options.arena_bytes));
    // Kernels load whole pages, whatever of them has been written.
    KVATTEND_RETURN_IF_CUDA_ERROR(
        cudaMemsetAsync(backend->arena(), 0, options.arena_bytes, backend->stream_.get()));
    KVATTEND_ASSIGN_OR_RETURN(backend->scratch_, DeviceBuffer::Create(kScratchBytes));
    KVATTEND_RETURN_IF_ERROR(backend->attention_.Initialise());
    return std::unique_ptr<Backend>(std::move(backend));
  }

  const DeviceInfo& device() const override { return device_; }
  absl::Status health() const override {
    std::lock_guard lock(fault_mutex_);
    return fault_;
  }
  DeviceMemory device_memory() const override {
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    if (cudaMemGetInfo(&free_bytes, &total_bytes) != cudaSuccess) return {};
    return {.used_bytes = total_bytes - free_bytes, .total_bytes = total_bytes};
  }
  uint64_t arena_bytes() const override { return arena_.size_bytes(); }
  size_t BlockBytes(const LayerShape& shape) const override {
    return RoundUpToUnit(static_cast<size_t>(shape.num_kv_heads) *
                         MakeBlockCodec(shape.codec).gpu_head_bytes());
  }
  size_t PageBytes(const LayerShape& shape) const override {
    return RoundUpToUnit(PageSizeBytes(shape));
  }
  absl::StatusOr<StagingBuffer> AllocateStaging(size_t size_bytes) override {
    return staging_.Allocate(size_bytes);
  }

  absl::Status Append(absl::Span<const CompressTask> compress,
                      absl::Span<const WritePageTask> write) override {
    return Run([&]() -> absl::Status {
      KVATTEND_RETURN_IF_ERROR(ForEachGroup(
          compress, [](const CompressTask& task) { return ShapeKey(task.shape); },
          [this](absl::Span<const CompressTask* const> tasks) { return Compress(tasks); }));
      return ForEachGroup(
          write,
          [](const WritePageTask& task) {
            return std::make_pair(task.shape.num_kv_heads, task.shape.codec.head_dim);
          },
          [this](absl::Span<const WritePageTask* const> tasks) { return WritePages(tasks); });
    });
  }

  absl::Status CopyPages(absl::Span<const CopyPageTask> tasks) override {
    return Run([&]() -> absl::Status {
      // Slots past num_tokens hold nothing that anyone reads; copying them too is one plain copy.
      KVATTEND_ASSIGN_OR_RETURN(CopyPageJob * jobs, jobs_.Allocate<CopyPageJob>(tasks.size()));
      for (size_t i = 0; i < tasks.size(); ++i) {
        jobs[i] = {tasks[i].source, tasks[i].destination, PageSizeBytes(tasks[i].shape)};
      }
      return KVATTEND_CUDA_STATUS(LaunchCopyPages(
          {.num_jobs = static_cast<int>(tasks.size()), .jobs = jobs, .arena = arena()},
          stream_.get()));
    });
  }

  absl::Status Recode(absl::Span<const RecodeTask> tasks) override {
    return Run([&] {
      return ForEachGroup(
          tasks,
          [](const RecodeTask& task) {
            return std::make_pair(ShapeKey(task.source_shape), ShapeKey(task.codec));
          },
          [this](absl::Span<const RecodeTask* const> group) { return RecodeGroup(group); });
    });
  }

  absl::Status ReadBlocks(const LayerShape& shape, absl::Span<const uint64_t> blocks,
                          uint8_t* canonical) override {
    return Run([&] {
      return ForEachPiece(
          shape, blocks.size(), [&](size_t first, size_t count, size_t block_bytes) {
            KVATTEND_ASSIGN_OR_RETURN(const ConvertLaunch launch,
                                      Convert(shape, blocks.subspan(first, count)));
            KVATTEND_RETURN_IF_CUDA_ERROR(LaunchReadBlocks(launch, stream_.get()));
            return Copy(canonical + first * block_bytes, scratch(), count * block_bytes);
          });
    });
  }

  absl::Status WriteBlocks(const LayerShape& shape, absl::Span<const uint64_t> blocks,
                           const uint8_t* canonical) override {
    return Run([&] {
      return ForEachPiece(
          shape, blocks.size(), [&](size_t first, size_t count, size_t block_bytes) {
            KVATTEND_RETURN_IF_ERROR(
                Copy(scratch(), canonical + first * block_bytes, count * block_bytes));
            KVATTEND_ASSIGN_OR_RETURN(const ConvertLaunch launch,
                                      Convert(shape, blocks.subspan(first, count)));
            return KVATTEND_CUDA_STATUS(LaunchWriteBlocks(launch, stream_.get()));
          });
    });
  }

  absl::Status Encode(const LayerShape& shape, int64_t num_tokens, const uint16_t* keys,
                      const uint16_t* values, uint8_t* canonical) override {
    const size_t block_values = BlockValues(shape);
    return Run([&] {
      return ForEachPiece(
          shape, num_tokens / kBlockTokens, [&](size_t first, size_t count, size_t block_bytes) {
            KVATTEND_RETURN_IF_CUDA_ERROR(LaunchEncode({.codec = MakeBlockCodec(shape.codec),
                                                        .num_kv_heads = shape.num_kv_heads,
                                                        .num_blocks = static_cast<int>(count),
                                                        .keys = keys + first * block_values,
                                                        .values = values + first * block_values,
                                                        .canonical = scratch()},
                                                       stream_.get()));
            return Copy(canonical + first * block_bytes, scratch(), count * block_bytes);
          });
    });
  }

  absl::Status Decode(const LayerShape& shape, int64_t num_tokens, const uint8_t* canonical,
                      float* keys, float* values) override {
    const size_t block_values = BlockValues(shape);
    return Run([&] {
      return ForEachPiece(
          shape, num_tokens / kBlockTokens, [&](size_t first, size_t count, size_t block_bytes) {
            KVATTEND_RETURN_IF_ERROR(
                Copy(scratch(), canonical + first * block_bytes, count * block_bytes));
            return KVATTEND_CUDA_STATUS(LaunchDecode({.codec = MakeBlockCodec(shape.codec),
                                                      .num_kv_heads = shape.num_kv_heads,
                                                      .num_blocks = static_cast<int>(count),
                                                      .canonical = scratch(),
                                                      .keys = keys + first * block_values,
                                                      .values = values + first * block_values},
                                                     stream_.get()));
          });
    });
  }

  absl::Status Attend(absl::Span<const kvattend::AttendTask> tasks) override {
    return Run([&] { return attention_.Attend(tasks); });
  }
  absl::Status ComputeScores(absl::Span<const ScoreTask> tasks) override {
    return Run([&] { return attention_.ComputeScores(tasks); });
  }

  absl::StatusOr<mustafar::Tiles> CompressTiles(const mustafar::TileSpec& spec,
                                                absl::Span<const uint16_t> dense) override {
    return RunFor<mustafar::Tiles>([&] { return cuda::CompressTiles(stream_, spec, dense); });
  }
  absl::StatusOr<std::vector<float>> DecompressTiles(const mustafar::Tiles& tiles) override {
    return RunFor<std::vector<float>>([&] { return cuda::DecompressTiles(stream_, tiles); });
  }
  absl::StatusOr<std::vector<float>> TileScores(const mustafar::Tiles& key_tiles,
                                                absl::Span<const uint16_t> queries) override {
    return RunFor<std::vector<float>>(
        [&] { return cuda::TileScores(stream_, key_tiles, queries); });
  }
  absl::StatusOr<std::vector<float>> TileOutputs(const mustafar::Tiles& value_tiles,
                                                 absl::Span<const float> weights) override {
    return RunFor<std::vector<float>>(
        [&] { return cuda::TileOutputs(stream_, value_tiles, weights); });
  }

 private:
  CudaBackend(const CudaDevice& device, std::function<void(const absl::Status&)> on_fault)
      : device_{"cuda", device.name}, on_fault_(std::move(on_fault)) {}

  uint8_t* arena() const { return arena_.as<uint8_t>(); }
  uint8_t* scratch() const { return scratch_.as<uint8_t>(); }
  static size_t BlockValues(const LayerShape& shape) {
    return static_cast<size_t>(kBlockTokens) * shape.num_kv_heads * shape.codec.head_dim;
  }

  // Does `work`, which enqueues, and waits until the device has done it. Keeps the first fault.
  template <typename Work>
  absl::Status Run(const Work& work) {
    KVATTEND_RETURN_IF_ERROR(health());
    jobs_.Reset();
    absl::Status status = work();
    // In any case, since what was enqueued before an error still uses the call's memory.
    status.Update(stream_.Synchronize());
    if (absl::IsUnavailable(status)) {
      {
        std::lock_guard lock(fault_mutex_);
        fault_ = status;
      }
      if (on_fault_) on_fault_(status);
    }
    return status;
  }

  // The same for work that gives a result.
  template <typename Result, typename Work>
  absl::StatusOr<Result> RunFor(const Work& work) {
    absl::StatusOr<Result> result;
    KVATTEND_RETURN_IF_ERROR(Run([&] {
      result = work();
      return result.status();
    }));
    return result;
  }

  // Calls work(first, count, bytes of a block) for runs of blocks whose canonical form fits
  // scratch.
  template <typename Work>
  static absl::Status ForEachPiece(const LayerShape& shape, size_t num_blocks, const Work& work) {
    const size_t block_bytes = shape.num_kv_heads * MakeBlockLayout(shape.codec).head_bytes;
    const size_t most = kScratchBytes / block_bytes;
    if (most == 0) return absl::ResourceExhaustedError("no scratch memory for a block");
    for (size_t first = 0; first < num_blocks; first += most) {
      KVATTEND_RETURN_IF_ERROR(work(first, std::min(most, num_blocks - first), block_bytes));
    }
    return absl::OkStatus();
  }

  absl::Status Copy(void* destination, const void* source, size_t size_bytes) {
    return KVATTEND_CUDA_STATUS(
        cudaMemcpyAsync(destination, source, size_bytes, cudaMemcpyDefault, stream_.get()));
  }

  absl::StatusOr<ConvertLaunch> Convert(const LayerShape& shape,
                                        absl::Span<const uint64_t> blocks) {
    KVATTEND_ASSIGN_OR_RETURN(uint64_t* const offsets, jobs_.Allocate<uint64_t>(blocks.size()));
    std::copy(blocks.begin(), blocks.end(), offsets);
    return ConvertLaunch{.codec = MakeBlockCodec(shape.codec),
                         .num_kv_heads = shape.num_kv_heads,
                         .num_blocks = static_cast<int>(blocks.size()),
                         .blocks = offsets,
                         .arena = arena(),
                         .canonical = scratch()};
  }

  absl::Status Compress(absl::Span<const CompressTask* const> tasks) {
    KVATTEND_ASSIGN_OR_RETURN(CompressJob * jobs, jobs_.Allocate<CompressJob>(tasks.size()));
    for (size_t i = 0; i < tasks.size(); ++i) {
      const CompressTask& task = *tasks[i];
      jobs[i] = {.block = task.block,
                 .keys = task.keys,
                 .values = task.values,
                 .num_paged = task.num_paged};
      std::copy(std::begin(task.pages), std::end(task.pages), jobs[i].pages);
    }
    const LayerShape& shape = tasks[0]->shape;
    return KVATTEND_CUDA_STATUS(LaunchCompress({.codec = MakeBlockCodec(shape.codec),
                                                .num_kv_heads = shape.num_kv_heads,
                                                .num_jobs = static_cast<int>(tasks.size()),
                                                .jobs = jobs,
                                                .arena = arena()},
                                               stream_.get()));
  }

  absl::Status WritePages(absl::Span<const WritePageTask* const> tasks) {
    KVATTEND_ASSIGN_OR_RETURN(WritePageJob * jobs, jobs_.Allocate<WritePageJob>(tasks.size()));
    for (size_t i = 0; i < tasks.size(); ++i) {
      const WritePageTask& task = *tasks[i];
      jobs[i] = {task.page, task.keys, task.values, task.first_slot, task.num_tokens};
    }
    const LayerShape& shape = tasks[0]->shape;
    return KVATTEND_CUDA_STATUS(LaunchWritePages({.head_dim = shape.codec.head_dim,
                                                  .num_kv_heads = shape.num_kv_heads,
                                                  .num_jobs = static_cast<int>(tasks.size()),
                                                  .jobs = jobs,
                                                  .arena = arena()},
                                                 stream_.get()));
  }

  absl::Status RecodeGroup(absl::Span<const RecodeTask* const> tasks) {
    KVATTEND_ASSIGN_OR_RETURN(RecodeJob * jobs, jobs_.Allocate<RecodeJob>(tasks.size()));
    for (size_t i = 0; i < tasks.size(); ++i) {
      jobs[i] = {.source = tasks[i]->source, .destination = tasks[i]->destination};
    }
    const RecodeTask& task = *tasks[0];
    return KVATTEND_CUDA_STATUS(
        LaunchRecode({.source_codec = MakeBlockCodec(task.source_shape.codec),
                      .codec = MakeBlockCodec(task.codec),
                      .num_kv_heads = task.source_shape.num_kv_heads,
                      .num_jobs = static_cast<int>(tasks.size()),
                      .jobs = jobs,
                      .arena = arena()},
                     stream_.get()));
  }

  const DeviceInfo device_;
  const std::function<void(const absl::Status&)> on_fault_;
  mutable std::mutex fault_mutex_;
  absl::Status fault_;
  PinnedPool staging_;
  PinnedArena jobs_;
  Stream stream_;
  DeviceBuffer arena_;
  DeviceBuffer scratch_;
  CudaAttention attention_{&stream_, &arena_};
};

}  // namespace
}  // namespace cuda

absl::StatusOr<CudaDevice> FindCudaDevice() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    return absl::NotFoundError(absl::StrCat("no CUDA device: ", error != cudaSuccess
                                                                    ? cudaGetErrorString(error)
                                                                    : "the driver shows none"));
  }
  cudaDeviceProp properties;
  KVATTEND_RETURN_IF_CUDA_ERROR(cudaGetDeviceProperties(&properties, 0));
  return CudaDevice{.name = properties.name, .memory_bytes = properties.totalGlobalMem};
}

absl::StatusOr<std::unique_ptr<Backend>> CreateCudaBackend(const CudaBackendOptions& options) {
  return cuda::CudaBackend::Create(options);
}

}  // namespace kvattend
