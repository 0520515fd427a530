#include "kernels/cuda/cuda_attention.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "kernels/cuda/compress.h"
#include "kernels/cuda/part_codec.h"
#include "kernels/cuda/task_groups.h"

namespace kvattend::cuda {
namespace {

// Most of what partial results take at a time; larger plans are launched in pieces.
constexpr size_t kMaxPartialBytes = size_t{512} << 20;
// Most that blocks of a codec without a kernel take when they are decoded.
constexpr size_t kMaxDecodedBytes = size_t{4} << 30;
// Most that scores take at a time, unless those of one token take more.
constexpr int64_t kMaxScoreBytes = int64_t{256} << 20;

// Pairs of a query token and a query head for each KV head.
int NumPairs(const LayerView& layer, const Query& query) {
  return query.num_tokens * (query.num_query_heads / layer.shape.num_kv_heads);
}

size_t QueryValues(const LayerView& layer, const Query& query) {
  return static_cast<size_t>(query.num_tokens) * query.num_query_heads * layer.shape.codec.head_dim;
}

// Tasks and merges of a plan that are launched together.
struct PlanPiece {
  size_t first_task = 0;
  size_t num_tasks = 0;
  size_t first_merge = 0;
  size_t num_merges = 0;
};

// Cuts a plan into pieces of at most `max_tasks` tasks, unless a merge alone has more. First tasks
// of merges are then counted from their piece's.
std::vector<PlanPiece> CutPlan(size_t max_tasks, AttendPlan& plan) {
  std::vector<PlanPiece> pieces;
  for (size_t m = 0; m < plan.merges.size(); ++m) {
    MergeTask& merge = plan.merges[m];
    const auto first_task = static_cast<size_t>(merge.first_task);
    if (pieces.empty() || pieces.back().num_tasks + merge.num_splits > max_tasks) {
      pieces.push_back({.first_task = first_task, .first_merge = m});
    }
    PlanPiece& piece = pieces.back();
    merge.first_task = static_cast<int32_t>(first_task - piece.first_task);
    piece.num_tasks += merge.num_splits;
    ++piece.num_merges;
  }
  return pieces;
}

CodecSpec ExactCodec(int head_dim) {
  return {.head_dim = head_dim,
          .keys = {.kept = head_dim, .bits = 16},
          .values = {.kept = head_dim, .bits = 16}};
}

}  // namespace

absl::Status CudaAttention::Initialise() {
  device_.arena = arena();
  int major = 0;
  KVATTEND_RETURN_IF_CUDA_ERROR(
      cudaDeviceGetAttribute(&device_.num_multiprocessors, cudaDevAttrMultiProcessorCount, 0));
  KVATTEND_RETURN_IF_CUDA_ERROR(cudaDeviceGetAttribute(&device_.max_shared_bytes,
                                                       cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
  KVATTEND_RETURN_IF_CUDA_ERROR(
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
  device_.has_dependent_launch = major >= 9;
  KVATTEND_ASSIGN_OR_RETURN(next_task_, DeviceBuffer::Create(sizeof(uint32_t)));
  device_.next_task = next_task_.as<uint32_t>();
  return KVATTEND_CUDA_STATUS(
      cudaMemsetAsync(device_.next_task, 0, sizeof(uint32_t), stream_.get()));
}

absl::Status CudaAttention::Attend(absl::Span<const kvattend::AttendTask> tasks) {
  return ForEachGroup(
      tasks,
      [](const kvattend::AttendTask& task) {
        return std::make_pair(ShapeKey(task.layer.shape.codec),
                              ColumnTilesFor(NumPairs(task.layer, task.query)));
      },
      [this](TaskPointers group) -> absl::Status {
        // The group before uses the same memory.
        KVATTEND_RETURN_IF_ERROR(stream_.Synchronize());
        KVATTEND_RETURN_IF_ERROR(CopyQueries(group));
        const absl::Status status = AttendGroup(group);
        return absl::IsUnimplemented(status) ? AttendDecoded(group) : status;
      });
}

absl::Status CudaAttention::CopyQueries(TaskPointers tasks) {
  size_t num_values = 0;
  for (const kvattend::AttendTask* task : tasks) {
    num_values += QueryValues(task->layer, task->query);
  }
  KVATTEND_RETURN_IF_ERROR(Grow(num_values * sizeof(float), queries_));
  float* destination = queries_.as<float>();
  for (size_t i = 0; i < tasks.size();) {
    // Queries of one request lie together: one copy for all of them.
    const float* const source = tasks[i]->query.data;
    size_t count = 0;
    for (; i < tasks.size() && tasks[i]->query.data == source + count; ++i) {
      count += QueryValues(tasks[i]->layer, tasks[i]->query);
    }
    KVATTEND_RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(destination, source, count * sizeof(float),
                                                  cudaMemcpyHostToDevice, stream_.get()));
    destination += count;
  }
  return absl::OkStatus();
}

absl::Status CudaAttention::AttendGroup(TaskPointers tasks) {
  std::vector<uint64_t> blocks;
  for (const kvattend::AttendTask* task : tasks) {
    blocks.insert(blocks.end(), task->layer.blocks.begin(), task->layer.blocks.end());
  }
  return LaunchPlan(tasks[0]->layer.shape.codec, tasks, blocks);
}

absl::Status CudaAttention::AttendDecoded(TaskPointers tasks) {
  const CodecSpec& codec = tasks[0]->layer.shape.codec;
  const CodecSpec exact = ExactCodec(codec.head_dim);
  const BlockCodec exact_codec = MakeBlockCodec(exact);
  size_t size_bytes = 0;
  for (const kvattend::AttendTask* task : tasks) {
    size_bytes += task->layer.blocks.size() * static_cast<size_t>(task->layer.shape.num_kv_heads) *
                  exact_codec.gpu_head_bytes();
  }
  if (size_bytes > kMaxDecodedBytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "codec ", CodecName(codec), " is decoded to float16 for attention, which takes ",
        size_bytes, " bytes here, of at most ", kMaxDecodedBytes,
        "; ask for fewer items, or use a preset"));
  }
  KVATTEND_RETURN_IF_ERROR(stream_.Synchronize());
  KVATTEND_RETURN_IF_ERROR(Grow(size_bytes, decoded_));
  // Kernels take offsets from the arena; these lead out of it, modulo 2^64.
  uint64_t next = decoded_.as<uint8_t>() - arena();
  std::vector<uint64_t> blocks;
  for (const kvattend::AttendTask* task : tasks) {
    const LayerView& layer = task->layer;
    std::vector<RecodeJob> jobs;
    for (const uint64_t block : layer.blocks) {
      jobs.push_back({.source = block, .destination = next});
      blocks.push_back(next);
      next += static_cast<uint64_t>(layer.shape.num_kv_heads) * exact_codec.gpu_head_bytes();
    }
    KVATTEND_RETURN_IF_ERROR(stream_.Synchronize());
    KVATTEND_RETURN_IF_ERROR(upload_.Reserve(UploadBuffer::SizeOf<RecodeJob>(jobs.size())));
    const RecodeJob* const device_jobs = upload_.Add<RecodeJob>(jobs);
    KVATTEND_RETURN_IF_ERROR(upload_.Upload(stream_));
    KVATTEND_RETURN_IF_CUDA_ERROR(LaunchRecode({.source_codec = MakeBlockCodec(codec),
                                                .codec = exact_codec,
                                                .num_kv_heads = layer.shape.num_kv_heads,
                                                .num_jobs = static_cast<int>(jobs.size()),
                                                .jobs = device_jobs,
                                                .arena = arena()},
                                               stream_.get()));
  }
  KVATTEND_RETURN_IF_ERROR(stream_.Synchronize());
  return LaunchPlan(exact, tasks, blocks);
}

absl::Status CudaAttention::LaunchPlan(const CodecSpec& codec, TaskPointers tasks,
                                       absl::Span<const uint64_t> blocks) {
  const BlockCodec block_codec = MakeBlockCodec(codec);
  const int num_column_tiles = ColumnTilesFor(NumPairs(tasks[0]->layer, tasks[0]->query));
  std::vector<AttendItem> items;
  std::vector<uint64_t> pages;
  plan_.tasks.clear();
  plan_.merges.clear();
  size_t block = 0;
  const float* query = queries_.as<float>();
  for (const kvattend::AttendTask* task : tasks) {
    const LayerView& layer = task->layer;
    items.push_back({.query = query,
                     .output = task->output,
                     .lse = task->lse,
                     .num_blocks = static_cast<int32_t>(layer.blocks.size()),
                     .num_exact = layer.num_exact,
                     .num_query_tokens = task->query.num_tokens,
                     .num_query_heads = task->query.num_query_heads,
                     .num_kv_heads = layer.shape.num_kv_heads,
                     .start_position = static_cast<int32_t>(task->query.start_position),
                     .scale = task->query.scale,
                     .group = task->query.num_query_heads / layer.shape.num_kv_heads});
    PlanItem(static_cast<int>(items.size()) - 1, items.back(), blocks.data() + block,
             block_codec.gpu_head_bytes(), num_column_tiles, plan_);
    query += QueryValues(layer, task->query);
    block += layer.blocks.size();
    pages.insert(pages.end(), layer.pages.begin(), layer.pages.end());
  }

  KVATTEND_RETURN_IF_ERROR(upload_.Reserve(UploadBuffer::SizeOf<uint64_t>(blocks.size()) +
                                           UploadBuffer::SizeOf<uint64_t>(pages.size()) +
                                           UploadBuffer::SizeOf<AttendItem>(items.size()) +
                                           UploadBuffer::SizeOf<AttendTask>(plan_.tasks.size()) +
                                           UploadBuffer::SizeOf<MergeTask>(plan_.merges.size())));
  const uint64_t* device_blocks = upload_.Add<uint64_t>(blocks);
  const uint64_t* device_pages = upload_.Add<uint64_t>(pages);
  for (size_t i = 0; i < items.size(); ++i) {
    items[i].blocks = device_blocks;
    items[i].pages = device_pages;
    device_blocks += items[i].num_blocks;
    device_pages += tasks[i]->layer.pages.size();
  }
  AttendLaunch launch = device_;
  launch.keys = block_codec.keys.gpu;
  launch.values = block_codec.values.gpu;
  launch.key_ratio = block_codec.keys.ratio;
  launch.value_ratio = block_codec.values.ratio;
  launch.num_column_tiles = num_column_tiles;
  launch.items = upload_.Add<AttendItem>(items);

  const size_t partial_bytes =
      static_cast<size_t>(kPairsATile) * num_column_tiles *
      (static_cast<size_t>(codec.head_dim) * sizeof(float) + sizeof(float2));
  const std::vector<PlanPiece> pieces = CutPlan(kMaxPartialBytes / partial_bytes, plan_);
  size_t most_tasks = 0;
  for (const PlanPiece& piece : pieces) most_tasks = std::max(most_tasks, piece.num_tasks);
  KVATTEND_RETURN_IF_ERROR(Grow(most_tasks * partial_bytes, partials_));
  launch.partial_outputs = partials_.as<float>();
  launch.partial_stats = reinterpret_cast<float2*>(launch.partial_outputs +
                                                   most_tasks * kPairsATile * num_column_tiles *
                                                       static_cast<size_t>(codec.head_dim));
  const AttendTask* const device_tasks = upload_.Add<AttendTask>(plan_.tasks);
  const MergeTask* const device_merges = upload_.Add<MergeTask>(plan_.merges);
  KVATTEND_RETURN_IF_ERROR(upload_.Upload(stream_));
  for (const PlanPiece& piece : pieces) {
    launch.tasks = device_tasks + piece.first_task;
    launch.num_tasks = static_cast<int>(piece.num_tasks);
    launch.merges = device_merges + piece.first_merge;
    launch.num_merges = static_cast<int>(piece.num_merges);
    KVATTEND_RETURN_IF_CUDA_ERROR(LaunchAttend(launch, stream_.get()));
  }
  return absl::OkStatus();
}

absl::Status CudaAttention::ComputeScores(absl::Span<const ScoreTask> tasks) {
  for (const ScoreTask& task : tasks) KVATTEND_RETURN_IF_ERROR(ComputeScores(task));
  return absl::OkStatus();
}

absl::Status CudaAttention::ComputeScores(const ScoreTask& task) {
  const LayerView& layer = task.layer;
  const Query& query = task.query;
  // The task before uses the same memory.
  KVATTEND_RETURN_IF_ERROR(stream_.Synchronize());
  KVATTEND_RETURN_IF_ERROR(upload_.Reserve(UploadBuffer::SizeOf<uint64_t>(layer.blocks.size()) +
                                           UploadBuffer::SizeOf<uint64_t>(layer.pages.size())));
  ScoresLaunch launch{.codec = MakeBlockCodec(layer.shape.codec),
                      .arena = arena(),
                      .blocks = upload_.Add<uint64_t>(layer.blocks),
                      .pages = upload_.Add<uint64_t>(layer.pages),
                      .num_blocks = static_cast<int>(layer.blocks.size()),
                      .num_exact = layer.num_exact,
                      .num_kv_heads = layer.shape.num_kv_heads,
                      .num_query_heads = query.num_query_heads,
                      .num_query_tokens = query.num_tokens,
                      .start_position = static_cast<int>(query.start_position),
                      .scale = query.scale};
  KVATTEND_RETURN_IF_ERROR(upload_.Upload(stream_));
  const size_t query_values = QueryValues(layer, query);
  KVATTEND_RETURN_IF_ERROR(Grow(query_values * sizeof(float), queries_));
  KVATTEND_RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(queries_.data(), query.data,
                                                query_values * sizeof(float),
                                                cudaMemcpyHostToDevice, stream_.get()));
  // As many tokens at a time as scratch memory is meant to hold.
  const int64_t token_bytes =
      static_cast<int64_t>(query.num_query_heads) * launch.width() * sizeof(float);
  const int step =
      static_cast<int>(std::clamp<int64_t>(kMaxScoreBytes / token_bytes, 1, query.num_tokens));
  KVATTEND_RETURN_IF_ERROR(Grow(static_cast<size_t>(step * token_bytes), scores_));
  launch.scores = scores_.as<float>();
  for (int token = 0; token < query.num_tokens; token += step) {
    launch.first_token = token;
    launch.last_token = std::min(token + step, query.num_tokens);
    launch.query = queries_.as<float>() +
                   static_cast<size_t>(token) * query.num_query_heads * layer.shape.codec.head_dim;
    KVATTEND_RETURN_IF_CUDA_ERROR(LaunchScores(launch, stream_.get()));
    if (task.softmax) KVATTEND_RETURN_IF_CUDA_ERROR(LaunchSoftmax(launch, stream_.get()));
    KVATTEND_RETURN_IF_ERROR(FinishScores(task, launch));
  }
  return absl::OkStatus();
}

absl::Status CudaAttention::FinishScores(const ScoreTask& task, const ScoresLaunch& launch) {
  const int64_t first_row = int64_t{launch.first_token} * launch.num_query_heads;
  if (task.top_k == 0) {
    return KVATTEND_CUDA_STATUS(
        cudaMemcpyAsync(task.scores + first_row * launch.width(), launch.scores,
                        static_cast<size_t>(launch.num_rows()) * launch.width() * sizeof(float),
                        cudaMemcpyDeviceToHost, stream_.get()));
  }
  const int k = std::min(task.top_k, launch.width());
  const size_t scratch_bytes =
      static_cast<size_t>(launch.num_rows()) * TopKScratch(k) * sizeof(uint64_t);
  if (scratch_bytes > chosen_.size_bytes()) {
    KVATTEND_RETURN_IF_ERROR(stream_.Synchronize());
    KVATTEND_RETURN_IF_ERROR(Grow(scratch_bytes, chosen_));
  }
  return KVATTEND_CUDA_STATUS(
      LaunchTopK({.scores = launch,
                  .k = k,
                  .unseen = task.softmax ? 0.0f : -std::numeric_limits<float>::infinity(),
                  .scratch = chosen_.as<uint64_t>(),
                  .top_scores = task.scores + first_row * k,
                  .top_positions = task.positions + first_row * k},
                 stream_.get()));
}

}  // namespace kvattend::cuda
