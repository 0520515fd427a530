#include "server/engine/append_operation.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "server/base/error.h"
#include "server/engine/entry_checks.h"

namespace kvattend {
namespace {

struct StagedLayer {
  LayerCache* layer = nullptr;
  AppendPlan plan;
  UnitList blocks;
  UnitList pages;
};

// An entry that will be applied, with all that it needs.
struct StagedEntry {
  const AppendEntry* entry = nullptr;
  AppendResult* result = nullptr;
  Session* session = nullptr;
  std::vector<StagedLayer> layers;
};

absl::Status Conflict(absl::string_view reason, absl::string_view field, int64_t index,
                      const Session& session, const AppendEntry& entry) {
  std::string positions;
  for (int layer : entry.layers) {
    absl::StrAppend(&positions, positions.empty() ? "" : ", ", session.layers()[layer].length());
  }
  Error error(absl::StatusCode::kAborted, reason,
              absl::StrCat("the entry expects revision ", entry.revision, " and position ",
                           entry.expected_position, ", the session has revision ",
                           session.revision(), " and the layers positions ", positions));
  error.With("revision", session.revision()).Field(EntryField(index, field));
  for (int layer : entry.layers) {
    error.With(absl::StrCat("layer_", layer, "_position"), session.layers()[layer].length());
  }
  return error;
}

// Whether the entry's tokens are there already; ABORTED if they neither are nor can be appended.
absl::StatusOr<bool> IsReplay(int64_t index, const Session& session, const AppendEntry& entry) {
  if (entry.revision != session.revision()) {
    return Conflict("REVISION_CONFLICT", "revision", index, session, entry);
  }
  const auto has_length = [&](auto&& condition) {
    return std::all_of(entry.layers.begin(), entry.layers.end(),
                       [&](int layer) { return condition(session.layers()[layer].length()); });
  };
  if (has_length([&](int64_t length) { return length == entry.expected_position; })) return false;
  if (has_length(
          [&](int64_t length) { return entry.expected_position <= length - entry.num_tokens; })) {
    return true;
  }
  return Conflict("POSITION_CONFLICT", "expected_position", index, session, entry);
}

absl::Status CheckLayers(int64_t index, const Session& session, const AppendEntry& entry) {
  for (size_t i = 0; i < entry.layers.size(); ++i) {
    KVATTEND_RETURN_IF_ERROR(
        CheckLayer(EntryField(index, absl::StrCat("layers[", i, "]")), session, entry.layers[i]));
  }
  KVATTEND_RETURN_IF_ERROR(CheckDimension(EntryField(index, "num_kv_heads"),
                                          session.config().shape.num_kv_heads, entry.num_kv_heads));
  return CheckDimension(EntryField(index, "head_dim"), session.config().shape.head_dim,
                        entry.head_dim);
}

// Plans the entry's layers and takes their units.
absl::StatusOr<std::vector<StagedLayer>> StageLayers(EngineState& state, Session& session,
                                                     const AppendEntry& entry) {
  std::vector<StagedLayer> layers;
  std::vector<BlockPool::Demand> demands;
  for (int layer : entry.layers) {
    StagedLayer staged = {.layer = &session.layers()[layer]};
    staged.plan = staged.layer->PlanAppend(entry.num_tokens, session.config().recent_window);
    demands.push_back({session.unit_sizes().block_bytes, staged.plan.num_blocks});
    demands.push_back({session.unit_sizes().page_bytes, staged.plan.num_pages});
    layers.push_back(std::move(staged));
  }
  KVATTEND_ASSIGN_OR_RETURN(std::vector<UnitList> units, state.AllocateUnits(demands));
  for (size_t i = 0; i < layers.size(); ++i) {
    layers[i].blocks = std::move(units[2 * i]);
    layers[i].pages = std::move(units[2 * i + 1]);
  }
  return layers;
}

// Answers a replay, or adds the entry to `staged`.
absl::Status Stage(EngineState& state, absl::string_view shard, int64_t index,
                   const AppendEntry& entry, AppendResult& result,
                   std::vector<StagedEntry>& staged) {
  KVATTEND_ASSIGN_OR_RETURN(Session * session, state.FindSession(entry.session, shard));
  KVATTEND_RETURN_IF_ERROR(CheckLayers(index, *session, entry));
  KVATTEND_ASSIGN_OR_RETURN(const bool is_replay, IsReplay(index, *session, entry));
  if (is_replay) {
    result.replayed = true;
    result.revision = session->revision();
    result.position = session->layers()[entry.layers.front()].length();
    for (int layer : entry.layers) {
      result.position = std::min(result.position, session->layers()[layer].length());
    }
    state.metrics->AppendReplayed();
    return absl::OkStatus();
  }
  KVATTEND_RETURN_IF_ERROR(entry.input_status);
  KVATTEND_ASSIGN_OR_RETURN(std::vector<StagedLayer> layers, StageLayers(state, *session, entry));
  staged.push_back({&entry, &result, session, std::move(layers)});
  return absl::OkStatus();
}

void AddTasks(const StagedEntry& staged, AppendTasks& tasks) {
  const AppendEntry& entry = *staged.entry;
  const ptrdiff_t layer_stride = ptrdiff_t{entry.num_tokens} * entry.num_kv_heads * entry.head_dim;
  for (size_t i = 0; i < staged.layers.size(); ++i) {
    const StagedLayer& layer = staged.layers[i];
    const ptrdiff_t offset = static_cast<ptrdiff_t>(i) * layer_stride;
    AddAppendTasks(layer.plan,
                   {.shape = staged.session->layer_shape(),
                    .old_pages = layer.layer->pages().offsets(),
                    .new_blocks = layer.blocks.offsets(),
                    .new_pages = layer.pages.offsets(),
                    .keys = entry.keys + offset,
                    .values = entry.values + offset},
                   tasks);
  }
}

void Commit(EngineState& state, StagedEntry& staged) {
  const Session& session = *staged.session;
  int64_t num_blocks = 0;
  for (StagedLayer& layer : staged.layers) {
    num_blocks += layer.plan.num_blocks;
    layer.layer->CommitAppend(layer.plan, std::move(layer.blocks), std::move(layer.pages));
  }
  const int64_t layer_tokens =
      int64_t{staged.entry->num_tokens} * static_cast<int64_t>(staged.layers.size());
  state.dense_bytes += layer_tokens * session.dense_token_bytes();
  state.metrics->TokensAppended(layer_tokens);
  state.CountCompressed(session.layer_shape(), session.unit_sizes().block_bytes, num_blocks);
  staged.result->position = staged.entry->expected_position + staged.entry->num_tokens;
  staged.result->revision = session.revision();
}

}  // namespace

absl::StatusOr<std::vector<AppendResult>> Append(EngineState& state, const AppendBatch& batch,
                                                 absl::string_view shard) {
  state.metrics->BatchSize(EngineOp::kAppend, static_cast<int>(batch.entries.size()));
  std::vector<AppendResult> results(batch.entries.size());
  std::vector<StagedEntry> staged;
  for (size_t i = 0; i < batch.entries.size(); ++i) {
    results[i].status =
        Stage(state, shard, static_cast<int64_t>(i), batch.entries[i], results[i], staged);
  }
  if (staged.empty()) return results;

  AppendTasks tasks;
  CodecLabel codec;
  for (const StagedEntry& entry : staged) {
    AddTasks(entry, tasks);
    codec.Add(entry.session->codec());
  }
  KVATTEND_RETURN_IF_ERROR(
      state.UseBackend(EngineOp::kAppend, codec.name(), [&tasks](Backend& backend) -> absl::Status {
        if (!tasks.copies.empty()) KVATTEND_RETURN_IF_ERROR(backend.CopyPages(tasks.copies));
        return backend.Append(tasks.compressions, tasks.writes);
      }));
  for (StagedEntry& entry : staged) Commit(state, entry);
  return results;
}

}  // namespace kvattend
