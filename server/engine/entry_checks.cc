#include "server/engine/entry_checks.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "server/base/error.h"

namespace kvattend {
namespace {

// What a query asks of its layer's length.
absl::Status CheckLength(int64_t index, const QueryEntry& entry, int64_t length) {
  if (length == 0) {
    return Error(absl::StatusCode::kFailedPrecondition, "EMPTY_LAYER",
                 absl::StrCat("layer ", entry.layer, " of sessions/", entry.session,
                              " has no tokens"))
        .Field(EntryField(index, "layer"));
  }
  if (length < entry.min_position) {
    return Error(absl::StatusCode::kFailedPrecondition, "POSITION_NOT_REACHED",
                 absl::StrCat("min_position is ", entry.min_position, ", the layer has ", length,
                              " tokens"))
        .With("position", length)
        .Field(EntryField(index, "min_position"));
  }
  if (length < entry.num_tokens) {
    return Error(absl::StatusCode::kFailedPrecondition, "TOO_FEW_TOKENS",
                 absl::StrCat("the queries are of the newest ", entry.num_tokens,
                              " tokens, the layer has ", length))
        .With("position", length)
        .Field(EntryField(index, "num_tokens"));
  }
  const int64_t first_query = length - entry.num_tokens;
  if (entry.start_position < 0 || entry.start_position > first_query) {
    return Error(absl::StatusCode::kInvalidArgument, "START_POSITION_OUT_OF_RANGE",
                 absl::StrCat("start_position is ", entry.start_position,
                              ", it must be 0 to the first query's position, ", first_query))
        .With("position", length)
        .Field(EntryField(index, "start_position"));
  }
  return absl::OkStatus();
}

}  // namespace

std::string EntryField(int64_t index, absl::string_view name) {
  return absl::StrCat("items[", index, "].", name);
}

absl::Status CheckLayer(absl::string_view field, const Session& session, int layer) {
  const int num_layers = session.config().shape.num_layers;
  if (layer >= 0 && layer < num_layers) return absl::OkStatus();
  return Error(absl::StatusCode::kInvalidArgument, "LAYER_OUT_OF_RANGE",
               absl::StrCat(field, " is ", layer, ", the session has layers 0 to ", num_layers - 1))
      .With("num_layers", num_layers)
      .Field(field);
}

absl::Status CheckDimension(absl::string_view field, int expected, int found) {
  if (found == expected) return absl::OkStatus();
  return Error(absl::StatusCode::kInvalidArgument, "SHAPE_MISMATCH",
               absl::StrCat(field, " is ", found, ", the session's is ", expected))
      .With("expected", expected)
      .Field(field);
}

absl::StatusOr<ResolvedQuery> ResolveQuery(EngineState& state, absl::string_view shard,
                                           int64_t index, const QueryEntry& entry, bool is_raw) {
  KVATTEND_ASSIGN_OR_RETURN(const Session* session, state.FindSession(entry.session, shard));
  const ModelShape& shape = session->config().shape;
  KVATTEND_RETURN_IF_ERROR(CheckLayer(EntryField(index, "layer"), *session, entry.layer));
  KVATTEND_RETURN_IF_ERROR(CheckDimension(EntryField(index, "num_query_heads"),
                                          shape.num_query_heads, entry.num_query_heads));
  KVATTEND_RETURN_IF_ERROR(
      CheckDimension(EntryField(index, "head_dim"), shape.head_dim, entry.head_dim));
  KVATTEND_RETURN_IF_ERROR(entry.input_status);
  const LayerView layer = session->layers()[entry.layer].View(session->layer_shape());
  KVATTEND_RETURN_IF_ERROR(CheckLength(index, entry, layer.length()));
  const float default_scale = is_raw ? 1.0f : 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
  return ResolvedQuery{layer,
                       {.num_tokens = entry.num_tokens,
                        .num_query_heads = entry.num_query_heads,
                        .data = entry.queries,
                        .scale = entry.scale.value_or(default_scale),
                        .start_position = entry.start_position}};
}

}  // namespace kvattend
