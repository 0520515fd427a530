#include "kernels/cpu/cpu_backend.h"

#include <sched.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/head_blocks.h"
#include "kernels/cpu/page.h"
#include "kernels/mustafar/tile_codec.h"

namespace kvattend {
namespace {

constexpr size_t RoundUpToUnit(size_t size) {
  return (size + Backend::kUnitAlignment - 1) / Backend::kUnitAlignment * Backend::kUnitAlignment;
}

// Not all of the machine's: a container may be given fewer.
int UsableCores() {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof(cores), &cores) == 0) return std::max(1, CPU_COUNT(&cores));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// Calls body(task, kv_head) for every KV head of every task, on the pool's threads.
template <typename Task, typename Shape, typename Body>
void ForEachHead(ThreadPool& pool, absl::Span<const Task> tasks, const Shape& shape_of,
                 const Body& body) {
  std::vector<std::pair<const Task*, int>> heads;
  for (const Task& task : tasks) {
    for (int h = 0; h < shape_of(task).num_kv_heads; ++h) heads.emplace_back(&task, h);
  }
  pool.ParallelFor(static_cast<int64_t>(heads.size()),
                   [&](int64_t i, int thread) { body(*heads[i].first, heads[i].second); });
}

template <typename Task>
const LayerShape& ShapeOf(const Task& task) {
  return task.shape;
}

}  // namespace

absl::StatusOr<std::unique_ptr<CpuBackend>> CpuBackend::Create(const CpuBackendOptions& options) {
  absl::StatusOr<Arena> arena = Arena::Create(options.arena_bytes);
  if (!arena.ok()) return arena.status();
  const int num_threads = options.num_threads > 0 ? options.num_threads : UsableCores();
  return std::unique_ptr<CpuBackend>(
      new CpuBackend(ChooseAttentionKernels(), *std::move(arena), num_threads));
}

CpuBackend::CpuBackend(const AttentionKernels& kernels, Arena arena, int num_threads)
    : arena_(std::move(arena)),
      pool_(num_threads),
      attention_(kernels, &pool_, arena_.data()),
      device_{"cpu", absl::StrCat(kernels.target_name, ", ", num_threads,
                                  num_threads == 1 ? " thread" : " threads")} {}

size_t CpuBackend::BlockBytes(const LayerShape& shape) const {
  // No padding beyond the alignment: no kernel reads past the last head's codes.
  return RoundUpToUnit(shape.num_kv_heads * MakeBlockLayout(shape.codec).head_bytes);
}

size_t CpuBackend::PageBytes(const LayerShape& shape) const {
  return RoundUpToUnit(PageSizeBytes(shape));
}

absl::StatusOr<StagingBuffer> CpuBackend::AllocateStaging(size_t size_bytes) {
  constexpr std::align_val_t kAlignment{64};
  auto* const data = static_cast<std::byte*>(::operator new(size_bytes, kAlignment, std::nothrow));
  if (data == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for ", size_bytes, " bytes"));
  }
  return StagingBuffer(data, [](std::byte* p) { ::operator delete(p, kAlignment); });
}

absl::Status CpuBackend::Append(absl::Span<const CompressTask> compress,
                                absl::Span<const WritePageTask> write) {
  ForEachHead(pool_, compress, ShapeOf<CompressTask>, [this](const CompressTask& task, int h) {
    const uint16_t* pages[kBlockTokens / kPageTokens];
    for (int p = 0; p < kBlockTokens / kPageTokens; ++p) pages[p] = page(task.pages[p]);
    const HeadCodec codec(task.shape, h);
    HeadTokens tokens;
    codec.GatherPages(pages, task.num_paged, &tokens);
    codec.Gather(task.keys, task.values, task.num_paged, kBlockTokens - task.num_paged, &tokens);
    codec.EncodeNative(tokens, arena_.data() + task.block);
  });
  ForEachHead(pool_, write, ShapeOf<WritePageTask>, [this](const WritePageTask& task, int h) {
    WritePageHead(task.shape, h, task.first_slot, task.num_tokens, task.keys, task.values,
                  page(task.page));
  });
  return absl::OkStatus();
}

absl::Status CpuBackend::CopyPages(absl::Span<const CopyPageTask> tasks) {
  pool_.ParallelFor(static_cast<int64_t>(tasks.size()), [&](int64_t i, int thread) {
    // Slots past num_tokens hold nothing that anyone reads; copying them too is one plain copy.
    std::memcpy(page(tasks[i].destination), page(tasks[i].source), PageSizeBytes(tasks[i].shape));
  });
  return absl::OkStatus();
}

absl::Status CpuBackend::Recode(absl::Span<const RecodeTask> tasks) {
  const auto shape_of = [](const RecodeTask& task) -> const LayerShape& {
    return task.source_shape;
  };
  ForEachHead(pool_, tasks, shape_of, [this](const RecodeTask& task, int h) {
    const LayerShape shape{task.source_shape.num_kv_heads, task.codec};
    HeadTokens tokens;
    HeadCodec(task.source_shape, h).DecodeNative(arena_.data() + task.source, &tokens);
    HeadCodec(shape, h).EncodeNative(tokens, arena_.data() + task.destination);
  });
  return absl::OkStatus();
}

absl::Status CpuBackend::Attend(absl::Span<const AttendTask> tasks) {
  return attention_.Attend(tasks);
}

absl::Status CpuBackend::ComputeScores(absl::Span<const ScoreTask> tasks) {
  return attention_.ComputeScores(tasks);
}

absl::Status CpuBackend::ReadBlocks(const LayerShape& shape, absl::Span<const uint64_t> blocks,
                                    uint8_t* canonical) {
  const size_t block_bytes = shape.num_kv_heads * MakeBlockLayout(shape.codec).head_bytes;
  ForEachHead(
      pool_, blocks, [&](uint64_t) -> const LayerShape& { return shape; },
      [&](const uint64_t& block, int h) {
        HeadCodec(shape, h).ToCanonical(arena_.data() + block,
                                        canonical + (&block - blocks.data()) * block_bytes);
      });
  return absl::OkStatus();
}

absl::Status CpuBackend::WriteBlocks(const LayerShape& shape, absl::Span<const uint64_t> blocks,
                                     const uint8_t* canonical) {
  const size_t block_bytes = shape.num_kv_heads * MakeBlockLayout(shape.codec).head_bytes;
  ForEachHead(
      pool_, blocks, [&](uint64_t) -> const LayerShape& { return shape; },
      [&](const uint64_t& block, int h) {
        HeadCodec(shape, h).ToNative(canonical + (&block - blocks.data()) * block_bytes,
                                     arena_.data() + block);
      });
  return absl::OkStatus();
}

absl::Status CpuBackend::Encode(const LayerShape& shape, int64_t num_tokens, const uint16_t* keys,
                                const uint16_t* values, uint8_t* canonical) {
  const size_t block_bytes = shape.num_kv_heads * MakeBlockLayout(shape.codec).head_bytes;
  const int64_t block_values = int64_t{kBlockTokens} * shape.num_kv_heads * shape.codec.head_dim;
  const int64_t num_heads = num_tokens / kBlockTokens * shape.num_kv_heads;
  pool_.ParallelFor(num_heads, [&](int64_t i, int thread) {
    const int64_t block = i / shape.num_kv_heads;
    const HeadCodec codec(shape, static_cast<int>(i % shape.num_kv_heads));
    HeadTokens tokens;
    codec.Gather(keys + block * block_values, values + block * block_values, 0, kBlockTokens,
                 &tokens);
    codec.EncodeCanonical(tokens, canonical + block * block_bytes);
  });
  return absl::OkStatus();
}

absl::Status CpuBackend::Decode(const LayerShape& shape, int64_t num_tokens,
                                const uint8_t* canonical, float* keys, float* values) {
  const size_t block_bytes = shape.num_kv_heads * MakeBlockLayout(shape.codec).head_bytes;
  const int64_t block_values = int64_t{kBlockTokens} * shape.num_kv_heads * shape.codec.head_dim;
  const int64_t num_heads = num_tokens / kBlockTokens * shape.num_kv_heads;
  pool_.ParallelFor(num_heads, [&](int64_t i, int thread) {
    const int64_t block = i / shape.num_kv_heads;
    const HeadCodec codec(shape, static_cast<int>(i % shape.num_kv_heads));
    codec.DecodeCanonical(canonical + block * block_bytes, keys + block * block_values,
                          values + block * block_values);
  });
  return absl::OkStatus();
}

absl::StatusOr<mustafar::Tiles> CpuBackend::CompressTiles(const mustafar::TileSpec& spec,
                                                          absl::Span<const uint16_t> dense) {
  return mustafar::CompressTiles(spec, dense);
}

absl::StatusOr<std::vector<float>> CpuBackend::DecompressTiles(const mustafar::Tiles& tiles) {
  return mustafar::DecompressTiles(tiles);
}

absl::StatusOr<std::vector<float>> CpuBackend::TileScores(const mustafar::Tiles& key_tiles,
                                                          absl::Span<const uint16_t> queries) {
  return mustafar::TileScores(key_tiles, queries);
}

absl::StatusOr<std::vector<float>> CpuBackend::TileOutputs(const mustafar::Tiles& value_tiles,
                                                           absl::Span<const float> weights) {
  return mustafar::TileOutputs(value_tiles, weights);
}

}  // namespace kvattend
