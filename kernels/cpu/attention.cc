#include "kernels/cpu/attention.h"

#include <algorithm>
#include <new>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "kernels/cpu/row_groups.h"
#include "kernels/cpu/top_k.h"

namespace kvattend {
namespace {

constexpr float kLog2E = 1.44269504f;
// What the groups that run at the same time may take for intermediate results, in floats (64 MiB);
// a single group may take more. Enough units run at once to keep a hundred threads busy.
constexpr size_t kWaveFloats = size_t{16} << 20;

// Splits `groups` into consecutive waves and gives run(first, last, offsets, size) each: group g's
// part of the wave's memory begins at offsets[g].
absl::Status RunWaves(
    absl::Span<const RowGroup> groups, absl::FunctionRef<size_t(const RowGroup&)> size_of,
    absl::FunctionRef<absl::Status(absl::Span<const RowGroup>, const std::vector<size_t>&, size_t)>
        run) {
  for (size_t first = 0; first < groups.size();) {
    std::vector<size_t> offsets;
    size_t size = 0;
    size_t last = first;
    for (; last < groups.size(); ++last) {
      const size_t group_size = size_of(groups[last]);
      if (last > first && size + group_size > kWaveFloats) break;
      offsets.push_back(size);
      size += group_size;
    }
    KVATTEND_RETURN_IF_ERROR(run(groups.subspan(first, last - first), offsets, size));
    first = last;
  }
  return absl::OkStatus();
}

// Layout of a group's memory in Attend: [splits][rows] max, the same of sum, [splits][rows]
// [head_dim] output.
size_t AttendGroupSize(const RowGroup& group) {
  return size_t{1} * group.num_splits() * group.num_rows * (group.source->keys.head_dim + 2);
}

SplitResult ResultOf(const RowGroup& group, float* memory, int split, int row) {
  const size_t index = size_t{1} * split * group.num_rows + row;
  const size_t count = size_t{1} * group.num_splits() * group.num_rows;
  return {memory + index, memory + count + index,
          memory + 2 * count + index * group.source->keys.head_dim};
}

template <typename Task>
std::vector<LayerQuery> MakeSources(absl::Span<const Task> tasks) {
  std::vector<LayerQuery> sources;
  sources.reserve(tasks.size());
  for (const Task& task : tasks) sources.emplace_back(task.layer, task.query);
  return sources;
}

int64_t ScoreWidth(const RowGroup& group) {
  return group.source->layer->length() - group.source->query->start_position;
}

}  // namespace

Attention::Attention(const AttentionKernels& kernels, ThreadPool* pool, const uint8_t* arena)
    : kernels_(kernels), pool_(pool), arena_(arena) {
  for (int thread = 0; thread < pool->num_threads(); ++thread) {
    // Not value-initialised: its pages are touched first by the thread that uses them.
    scratch_.emplace_back(new AttentionScratch);
  }
}

absl::StatusOr<float*> Attention::Reserve(size_t size) {
  if (buffer_size_ < size) {
    buffer_.reset(new (std::nothrow) float[size]);
    buffer_size_ = buffer_ == nullptr ? 0 : size;
    if (buffer_ == nullptr) {
      return absl::ResourceExhaustedError(
          absl::StrCat("no memory for ", size, " intermediate results of attention"));
    }
  }
  return buffer_.get();
}

absl::Status Attention::Attend(absl::Span<const AttendTask> tasks) {
  const std::vector<LayerQuery> sources = MakeSources(tasks);
  std::vector<RowGroup> groups;
  for (size_t i = 0; i < tasks.size(); ++i) AddRowGroups(sources[i], i, kMaxRows, &groups);
  return RunWaves(
      groups, AttendGroupSize,
      [&](absl::Span<const RowGroup> wave, const std::vector<size_t>& offsets,
          size_t size) -> absl::Status {
        KVATTEND_ASSIGN_OR_RETURN(float* const memory, Reserve(size));
        const auto run_split = [&](int64_t g, int split, int thread) {
          const RowGroup& group = wave[g];
          const SplitInputs inputs(group, split, arena_, group.source->query->scale * kLog2E);
          kernels_.attend_split(inputs.task(), *scratch_[thread],
                                ResultOf(group, memory + offsets[g], split, 0));
        };
        const auto finish = [&](int64_t g, int thread) {
          const RowGroup& group = wave[g];
          const AttendTask& task = tasks[group.task];
          const int head_dim = group.source->keys.head_dim;
          for (int r = 0; r < group.num_rows; ++r) {
            const int64_t row = group.tensor_row(r);
            kernels_.merge(ResultOf(group, memory + offsets[g], 0, r), group.num_splits(),
                           group.num_rows, int64_t{group.num_rows} * head_dim, head_dim,
                           task.output + row * head_dim, task.lse + row);
          }
        };
        RunSplits(*pool_, wave, run_split, finish);
        return absl::OkStatus();
      });
}

// Where the scores of a group's rows go: [rows][stride].
struct Attention::ScorePlan {
  float* Row(const RowGroup& group, size_t g, int row) const {
    const int64_t width = ScoreWidth(group);
    return memory == nullptr ? tasks[group.task].scores + group.tensor_row(row) * width
                             : memory + offsets[g] + row * width;
  }
  absl::Span<const ScoreTask> tasks;
  absl::Span<const RowGroup> groups;
  // For top_k; otherwise null: straight to the task's scores.
  float* memory = nullptr;
  const std::vector<size_t>& offsets;
};

void Attention::FinishScores(const ScoreTask& task, const ScorePlan& plan, size_t g) {
  const RowGroup& group = plan.groups[g];
  const int64_t width = ScoreWidth(group);
  const int64_t start = task.query.start_position;
  const float unseen = task.softmax ? 0.0f : -std::numeric_limits<float>::infinity();
  for (int r = 0; r < group.num_rows; ++r) {
    float* const scores = plan.Row(group, g, r);
    const int64_t num_seen = group.end(r) - start;
    if (task.softmax) kernels_.softmax(scores, num_seen);
    if (task.top_k == 0) {
      std::fill(scores + num_seen, scores + width, unseen);
      continue;
    }
    const int64_t count = std::min<int64_t>(task.top_k, width);
    const int64_t row = group.tensor_row(r);
    float* const top_scores = task.scores + row * count;
    int64_t* const top_positions = task.positions + row * count;
    const int64_t found =
        SelectTopK(absl::MakeConstSpan(scores, num_seen), start, count, top_scores, top_positions);
    std::fill(top_scores + found, top_scores + count, unseen);
    std::fill(top_positions + found, top_positions + count, -1);
  }
}

absl::Status Attention::ComputeScores(absl::Span<const ScoreTask> tasks) {
  const std::vector<LayerQuery> sources = MakeSources(tasks);
  std::vector<RowGroup> groups;
  for (size_t i = 0; i < tasks.size(); ++i) {
    const int64_t width = tasks[i].layer.length() - tasks[i].query.start_position;
    const int64_t max_rows =
        std::clamp<int64_t>(static_cast<int64_t>(kWaveFloats) / width, 1, kMaxRows);
    AddRowGroups(sources[i], i, static_cast<int>(max_rows), &groups);
  }
  const auto size_of = [&](const RowGroup& group) -> size_t {
    return tasks[group.task].top_k == 0 ? 0 : group.num_rows * ScoreWidth(group);
  };
  return RunWaves(groups, size_of,
                  [&](absl::Span<const RowGroup> wave, const std::vector<size_t>& offsets,
                      size_t size) -> absl::Status {
                    KVATTEND_ASSIGN_OR_RETURN(float* const memory, Reserve(size));
                    const auto plan_of = [&](const ScoreTask& task) {
                      return ScorePlan{tasks, wave, task.top_k == 0 ? nullptr : memory, offsets};
                    };
                    const auto run_split = [&](int64_t g, int split, int thread) {
                      const RowGroup& group = wave[g];
                      const ScoreTask& task = tasks[group.task];
                      const ScorePlan plan = plan_of(task);
                      // Raw scores are natural; a softmax is computed in base 2.
                      const SplitInputs inputs(group, split, arena_,
                                               task.query.scale * (task.softmax ? kLog2E : 1.0f));
                      const int64_t first_token = (group.first_split() + split) * kSplitTokens;
                      float* rows[kMaxRows];
                      for (int r = 0; r < group.num_rows; ++r) {
                        rows[r] = plan.Row(group, g, r) +
                                  std::max<int64_t>(first_token - task.query.start_position, 0);
                      }
                      kernels_.score_split(inputs.task(), *scratch_[thread], rows);
                    };
                    const auto finish = [&](int64_t g, int thread) {
                      const ScoreTask& task = tasks[wave[g].task];
                      FinishScores(task, plan_of(task), g);
                    };
                    RunSplits(*pool_, wave, run_split, finish);
                    return absl::OkStatus();
                  });
}

}  // namespace kvattend
