// What entries of a batch are checked for once their session is known.
//
// Thread-safe: pure functions of their arguments; sessions belong to the executor's thread.
#ifndef KVATTEND_SERVER_ENGINE_ENTRY_CHECKS_H_
#define KVATTEND_SERVER_ENGINE_ENTRY_CHECKS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/engine/engine_state.h"
#include "server/engine/engine_types.h"

namespace kvattend {

// "items[index].name".
std::string EntryField(int64_t index, absl::string_view name);

// INVALID_ARGUMENT LAYER_OUT_OF_RANGE.
absl::Status CheckLayer(absl::string_view field, const Session& session, int layer);

// INVALID_ARGUMENT SHAPE_MISMATCH.
absl::Status CheckDimension(absl::string_view field, int expected, int found);

// A query over a layer. Holds while the session does not change.
struct ResolvedQuery {
  LayerView layer;
  Query query;

  int64_t num_rows() const { return int64_t{query.num_tokens} * query.num_query_heads; }
};

// Entry `index` of a batch: NOT_FOUND SESSION_NOT_FOUND; INVALID_ARGUMENT LAYER_OUT_OF_RANGE,
// SHAPE_MISMATCH, START_POSITION_OUT_OF_RANGE; the entry's input_status; FAILED_PRECONDITION
// WRONG_SHARD, EMPTY_LAYER, POSITION_NOT_REACHED, TOO_FEW_TOKENS. A query without a scale gets
// 1 / sqrt(head_dim), or 1 if it is raw.
absl::StatusOr<ResolvedQuery> ResolveQuery(EngineState& state, absl::string_view shard,
                                           int64_t index, const QueryEntry& entry, bool is_raw);

}  // namespace kvattend

#endif  // KVATTEND_SERVER_ENGINE_ENTRY_CHECKS_H_
