#include "server/engine/truncate_operation.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "server/base/error.h"

namespace kvattend {
namespace {

absl::Status CheckLength(const Session& session, int64_t length) {
  int64_t longest = 0;
  for (const LayerCache& layer : session.layers()) longest = std::max(longest, layer.length());
  if (length > longest) {
    return Error(absl::StatusCode::kOutOfRange, "LENGTH_BEYOND_END",
                 absl::StrCat("length is ", length, ", the longest layer has ", longest, " tokens"))
        .With("longest_layer_length", longest)
        .Field("length");
  }
  for (size_t i = 0; i < session.layers().size(); ++i) {
    if (session.layers()[i].CanTruncate(length)) continue;
    // A multiple of 64 is possible in every layer.
    const int64_t below = length / kBlockTokens * kBlockTokens;
    return Error(absl::StatusCode::kFailedPrecondition, "TRUNCATE_INSIDE_BLOCK",
                 absl::StrCat("length is ", length, ", inside a compressed block of layer ", i,
                              "; the nearest possible lengths are ", below, " and ",
                              below + kBlockTokens))
        .With("layer", static_cast<int64_t>(i))
        .With("nearest_below", below)
        .With("nearest_above", below + kBlockTokens)
        .Field("length");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SessionChange> TruncateSession(EngineState& state, absl::string_view id,
                                              int64_t length, absl::string_view shard) {
  KVATTEND_ASSIGN_OR_RETURN(Session * session, state.FindSession(id, shard));
  KVATTEND_RETURN_IF_ERROR(CheckLength(*session, length));
  const uint64_t used_before = state.pool.used_bytes();
  state.dense_bytes -= session->dense_bytes();
  for (LayerCache& layer : session->layers()) layer.Truncate(length);
  state.dense_bytes += session->dense_bytes();
  session->RaiseRevision();
  return SessionChange{session->Info(),
                       static_cast<int64_t>(used_before - state.pool.used_bytes())};
}

}  // namespace kvattend
