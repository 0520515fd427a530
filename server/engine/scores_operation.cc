#include "server/engine/scores_operation.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "server/base/error.h"
#include "server/engine/entry_checks.h"

namespace kvattend {
namespace {

// Scores of the results' rows, and their total.
struct Sizes {
  std::vector<int64_t> of_task;
  int64_t total = 0;
};

absl::Status CheckAnswerBytes(int64_t num_scores, const ScoreOptions& options) {
  const int64_t score_bytes = sizeof(float) + (options.top_k > 0 ? sizeof(int64_t) : 0);
  const int64_t needed_bytes = num_scores * score_bytes;
  if (needed_bytes <= options.max_answer_bytes) return absl::OkStatus();
  return Error(absl::StatusCode::kResourceExhausted, "RESPONSE_TOO_LARGE",
               absl::StrCat("the scores would take ", needed_bytes, " bytes, an answer holds ",
                            options.max_answer_bytes,
                            "; ask for top_k scores, or for fewer items or a later "
                            "start_position a call"))
      .With("needed_bytes", needed_bytes)
      .With("max_bytes", options.max_answer_bytes);
}

// Positions are 8 bytes, scores 4; the positions, behind them, start at a multiple of 8.
int64_t ScoreBytes(int64_t num_scores) {
  return (num_scores * static_cast<int64_t>(sizeof(float)) + 7) / 8 * 8;
}

}  // namespace

absl::StatusOr<ScoresAnswer> ComputeScores(EngineState& state, const QueryBatch& batch,
                                           const ScoreOptions& options, absl::string_view shard) {
  state.metrics->BatchSize(EngineOp::kScores, static_cast<int>(batch.entries.size()));
  ScoresAnswer answer;
  answer.results.resize(batch.entries.size());
  std::vector<ScoreTask> tasks;
  // Of the tasks.
  std::vector<ScoresResult*> results;
  Sizes sizes;
  CodecLabel codec;
  for (size_t i = 0; i < batch.entries.size(); ++i) {
    ScoresResult& result = answer.results[i];
    const absl::StatusOr<ResolvedQuery> resolved = ResolveQuery(
        state, shard, static_cast<int64_t>(i), batch.entries[i], /*is_raw=*/!options.softmax);
    result.status = resolved.status();
    if (!resolved.ok()) continue;
    result.position = resolved->layer.length();
    result.num_scores = result.position - resolved->query.start_position;
    if (options.top_k > 0) result.num_scores = std::min<int64_t>(result.num_scores, options.top_k);
    tasks.push_back({.layer = resolved->layer,
                     .query = resolved->query,
                     .softmax = options.softmax,
                     .top_k = options.top_k});
    results.push_back(&result);
    sizes.of_task.push_back(resolved->num_rows() * result.num_scores);
    sizes.total += sizes.of_task.back();
    codec.Add(resolved->layer.shape.codec);
  }
  KVATTEND_RETURN_IF_ERROR(CheckAnswerBytes(sizes.total, options));
  if (tasks.empty()) return answer;

  const int64_t position_bytes =
      options.top_k > 0 ? sizes.total * static_cast<int64_t>(sizeof(int64_t)) : 0;
  absl::StatusOr<StagingBuffer> staging =
      state.backend->AllocateStaging(static_cast<size_t>(ScoreBytes(sizes.total) + position_bytes));
  if (!staging.ok()) return FromBackend(staging.status());
  answer.staging = *std::move(staging);
  auto* scores = reinterpret_cast<float*>(answer.staging.get());
  auto* positions = reinterpret_cast<int64_t*>(answer.staging.get() + ScoreBytes(sizes.total));
  for (size_t i = 0; i < tasks.size(); ++i) {
    results[i]->scores = tasks[i].scores = scores;
    scores += sizes.of_task[i];
    if (options.top_k == 0) continue;
    results[i]->positions = tasks[i].positions = positions;
    positions += sizes.of_task[i];
  }
  KVATTEND_RETURN_IF_ERROR(
      state.UseBackend(EngineOp::kScores, codec.name(),
                       [&tasks](Backend& backend) { return backend.ComputeScores(tasks); }));
  return answer;
}

}  // namespace kvattend
