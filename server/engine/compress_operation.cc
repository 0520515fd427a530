#include "server/engine/compress_operation.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "server/base/error.h"

namespace kvattend {
namespace {

bool IsNoLarger(const VectorFormat& format, const VectorFormat& present) {
  return format.kept <= present.kept && format.bits <= present.bits;
}

std::string Describe(const CodecSpec& codec) {
  return absl::StrCat(codec.keys.kept, " channels of keys at ", codec.keys.bits, " bits and ",
                      codec.values.kept, " of values at ", codec.values.bits);
}

absl::Status CheckCodec(const CodecSpec& codec, const CodecSpec& present) {
  if (codec.head_dim == present.head_dim && IsNoLarger(codec.keys, present.keys) &&
      IsNoLarger(codec.values, present.values)) {
    return absl::OkStatus();
  }
  return Error(absl::StatusCode::kInvalidArgument, "CODEC_NOT_SMALLER",
               absl::StrCat("the session keeps ", Describe(present), ", of ", present.head_dim,
                            "; the new codec may keep no more of either, but has ", Describe(codec),
                            ", of ", codec.head_dim))
      .Field("codec");
}

// Blocks that the oldest exact tokens become.
int64_t NumNewBlocks(const LayerCache& layer, int64_t keep_exact) {
  return std::max<int64_t>(0, (layer.num_exact() - keep_exact) / kBlockTokens);
}

struct Tasks {
  std::vector<RecodeTask> recodings;
  std::vector<CompressTask> compressions;
};

// units: for each layer the recoded blocks, then the new ones.
Tasks MakeTasks(const Session& session, const CodecSpec& codec, absl::Span<const UnitList> units) {
  Tasks tasks;
  const LayerShape new_shape = {session.config().shape.num_kv_heads, codec};
  for (size_t i = 0; i < session.layers().size(); ++i) {
    const LayerCache& layer = session.layers()[i];
    const UnitList& recoded = units[2 * i];
    const UnitList& compressed = units[2 * i + 1];
    for (size_t block = 0; block < recoded.size(); ++block) {
      tasks.recodings.push_back(
          {session.layer_shape(), layer.blocks()[block], codec, recoded[block]});
    }
    for (size_t block = 0; block < compressed.size(); ++block) {
      tasks.compressions.push_back(CompressPages(new_shape, layer.pages().offsets(),
                                                 static_cast<int64_t>(block), compressed[block]));
    }
  }
  return tasks;
}

}  // namespace

absl::StatusOr<SessionChange> CompressSession(EngineState& state, absl::string_view id,
                                              std::optional<int64_t> keep_exact,
                                              std::optional<CodecSpec> new_codec,
                                              absl::string_view shard) {
  KVATTEND_ASSIGN_OR_RETURN(Session * session, state.FindSession(id, shard));
  const int64_t recent_window = session->config().recent_window;
  if (keep_exact.value_or(0) > recent_window) {
    return Error(absl::StatusCode::kInvalidArgument, "KEEP_EXACT_OUT_OF_RANGE",
                 absl::StrCat("keep_exact is ", *keep_exact, ", the session's recent window has ",
                              recent_window, " tokens"))
        .With("recent_window", recent_window)
        .Field("keep_exact");
  }
  const CodecSpec codec = new_codec.value_or(session->codec());
  KVATTEND_RETURN_IF_ERROR(CheckCodec(codec, session->codec()));
  const LayerShape shape = {session->config().shape.num_kv_heads, codec};
  KVATTEND_ASSIGN_OR_RETURN(const UnitSizes unit_sizes, state.GetUnitSizes(shape));

  const uint64_t used_before = state.pool.used_bytes();
  const bool recodes = codec != session->codec();
  std::vector<BlockPool::Demand> demands;
  int64_t num_blocks = 0;
  for (const LayerCache& layer : session->layers()) {
    const int64_t num_recoded = recodes ? static_cast<int64_t>(layer.blocks().size()) : 0;
    const int64_t num_new = NumNewBlocks(layer, keep_exact.value_or(recent_window));
    demands.push_back({unit_sizes.block_bytes, num_recoded});
    demands.push_back({unit_sizes.block_bytes, num_new});
    num_blocks += num_recoded + num_new;
  }
  KVATTEND_ASSIGN_OR_RETURN(std::vector<UnitList> units, state.AllocateUnits(demands));
  if (num_blocks > 0) {
    const Tasks tasks = MakeTasks(*session, codec, units);
    KVATTEND_RETURN_IF_ERROR(state.UseBackend(
        EngineOp::kCompressSession, CodecName(codec), [&tasks](Backend& backend) -> absl::Status {
          if (!tasks.recodings.empty()) {
            KVATTEND_RETURN_IF_ERROR(backend.Recode(tasks.recodings));
          }
          if (tasks.compressions.empty()) return absl::OkStatus();
          return backend.Append(tasks.compressions, {});
        }));
  }

  for (size_t i = 0; i < session->layers().size(); ++i) {
    LayerCache& layer = session->layers()[i];
    if (recodes) layer.CommitRecode(std::move(units[2 * i]));
    layer.CommitCompress(std::move(units[2 * i + 1]));
  }
  session->SetCodec(codec, unit_sizes);
  session->RaiseRevision();
  state.CountCompressed(shape, unit_sizes.block_bytes, num_blocks);
  const int64_t freed_bytes =
      static_cast<int64_t>(used_before) - static_cast<int64_t>(state.pool.used_bytes());
  return SessionChange{session->Info(), std::max<int64_t>(0, freed_bytes)};
}

}  // namespace kvattend
