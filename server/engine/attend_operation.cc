#include "server/engine/attend_operation.h"

#include <vector>

#include "kernels/base/status_macros.h"
#include "server/engine/entry_checks.h"

namespace kvattend {

absl::StatusOr<AttendAnswer> Attend(EngineState& state, const QueryBatch& batch,
                                    absl::string_view shard) {
  state.metrics->BatchSize(EngineOp::kAttend, static_cast<int>(batch.entries.size()));
  AttendAnswer answer;
  answer.results.resize(batch.entries.size());
  std::vector<AttendTask> tasks;
  // Of the tasks.
  std::vector<AttendResult*> results;
  CodecLabel codec;
  int64_t num_rows = 0;
  int64_t num_outputs = 0;
  for (size_t i = 0; i < batch.entries.size(); ++i) {
    AttendResult& result = answer.results[i];
    const absl::StatusOr<ResolvedQuery> resolved =
        ResolveQuery(state, shard, static_cast<int64_t>(i), batch.entries[i], /*is_raw=*/false);
    result.status = resolved.status();
    if (!resolved.ok()) continue;
    result.position = resolved->layer.length();
    tasks.push_back({.layer = resolved->layer, .query = resolved->query});
    results.push_back(&result);
    codec.Add(resolved->layer.shape.codec);
    num_rows += resolved->num_rows();
    num_outputs += resolved->num_rows() * batch.entries[i].head_dim;
  }
  if (tasks.empty()) return answer;

  absl::StatusOr<StagingBuffer> staging =
      state.backend->AllocateStaging(static_cast<size_t>(num_outputs + num_rows) * sizeof(float));
  if (!staging.ok()) return FromBackend(staging.status());
  answer.staging = *std::move(staging);
  auto* output = reinterpret_cast<float*>(answer.staging.get());
  float* lse = output + num_outputs;
  for (size_t i = 0; i < tasks.size(); ++i) {
    AttendTask& task = tasks[i];
    results[i]->output = task.output = output;
    results[i]->lse = task.lse = lse;
    const ptrdiff_t rows = ptrdiff_t{task.query.num_tokens} * task.query.num_query_heads;
    output += rows * task.layer.shape.codec.head_dim;
    lse += rows;
  }
  KVATTEND_RETURN_IF_ERROR(
      state.UseBackend(EngineOp::kAttend, codec.name(),
                       [&tasks](Backend& backend) { return backend.Attend(tasks); }));
  return answer;
}

}  // namespace kvattend
