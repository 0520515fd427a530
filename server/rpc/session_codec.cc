#include "server/rpc/session_codec.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kernels/base/status_macros.h"
#include "server/rpc/names.h"
#include "server/rpc/validation.h"

namespace kvattend {
namespace {

constexpr int64_t kDefaultRecentWindow = 64;
constexpr int kDefaultPageSize = 100;
constexpr int kMaxPageSize = 1000;

Error InvalidCodec(absl::string_view field, absl::string_view problem) {
  return InvalidField("INVALID_CODEC", {field}, problem);
}

VectorFormat ParseVectorFormat(const v1::VectorFormat& format) {
  return {.kept = format.kept(), .bits = format.bits()};
}

absl::StatusOr<ModelShape> ParseModelShape(const v1::ModelShape& proto, const Limits& limits) {
  KVATTEND_RETURN_IF_ERROR(
      CheckRange({"model_shape.num_layers"}, proto.num_layers(), 1, limits.max_layers));
  KVATTEND_RETURN_IF_ERROR(
      CheckRange({"model_shape.num_kv_heads"}, proto.num_kv_heads(), 1, limits.max_kv_heads));
  KVATTEND_RETURN_IF_ERROR(CheckRange({"model_shape.num_query_heads"}, proto.num_query_heads(), 1,
                                      limits.max_query_heads));
  if (proto.num_query_heads() % proto.num_kv_heads() != 0) {
    return InvalidField("INVALID_MODEL_SHAPE", {"model_shape.num_query_heads"},
                        absl::StrCat("expected a multiple of num_kv_heads (", proto.num_kv_heads(),
                                     "), found ", proto.num_query_heads()));
  }
  if (proto.head_dim() != 64 && proto.head_dim() != 128 && proto.head_dim() != 256) {
    return InvalidField("INVALID_MODEL_SHAPE", {"model_shape.head_dim"},
                        absl::StrCat("expected 64, 128 or 256, found ", proto.head_dim()));
  }
  return ModelShape{.num_layers = proto.num_layers(),
                    .num_query_heads = proto.num_query_heads(),
                    .num_kv_heads = proto.num_kv_heads(),
                    .head_dim = proto.head_dim()};
}

}  // namespace

absl::StatusOr<CodecSpec> ParseCodec(const v1::Codec& codec, int head_dim) {
  const bool has_formats = codec.has_keys() || codec.has_values();
  if (!has_formats) {
    const std::string preset = codec.preset().empty() ? kDefaultPreset : codec.preset();
    absl::StatusOr<CodecSpec> spec = CodecFromPreset(preset, head_dim);
    if (spec.ok()) return spec;
    std::string names;
    for (const CodecPreset& known : CodecPresets()) {
      absl::StrAppend(&names, names.empty() ? "" : ", ", known.name);
    }
    return InvalidCodec("codec.preset",
                        absl::StrCat("expected one of ", names, ", found ", Quote(codec.preset())));
  }
  if (!codec.has_keys() || !codec.has_values()) {
    return InvalidCodec(codec.has_keys() ? "codec.values" : "codec.keys",
                        "expected keys and values, found only one of them");
  }
  const CodecSpec spec{.head_dim = head_dim,
                       .keys = ParseVectorFormat(codec.keys()),
                       .values = ParseVectorFormat(codec.values())};
  if (const absl::Status status = ValidateCodec(spec); !status.ok()) {
    // The message is "keys.kept: expected ...".
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(status.message(), absl::MaxSplits(": ", 1));
    return InvalidCodec(absl::StrCat("codec.", parts.first), parts.second);
  }
  if (!codec.preset().empty() && codec.preset() != CodecName(spec)) {
    return InvalidCodec("codec.preset",
                        absl::StrCat("expected nothing, or \"", CodecName(spec),
                                     "\" as keys and values are, found ", Quote(codec.preset())));
  }
  return spec;
}

v1::Codec ToProto(const CodecSpec& codec) {
  v1::Codec proto;
  const absl::string_view name = CodecName(codec);
  proto.set_preset(name.data(), name.size());
  proto.mutable_keys()->set_kept(codec.keys.kept);
  proto.mutable_keys()->set_bits(codec.keys.bits);
  proto.mutable_values()->set_kept(codec.values.kept);
  proto.mutable_values()->set_bits(codec.values.bits);
  return proto;
}

absl::StatusOr<CreateSessionParams> ParseCreateSession(const v1::CreateSessionRequest& request,
                                                       const Limits& limits,
                                                       const std::string& shard) {
  CreateSessionParams params;
  if (!request.session_id().empty()) {
    KVATTEND_RETURN_IF_ERROR(ValidateSessionId(request.session_id(), {"session_id"}));
  }
  params.id = request.session_id();
  KVATTEND_ASSIGN_OR_RETURN(params.shape, ParseModelShape(request.model_shape(), limits));
  KVATTEND_ASSIGN_OR_RETURN(params.codec, ParseCodec(request.codec(), params.shape.head_dim));
  params.recent_window =
      request.has_recent_window() ? request.recent_window() : kDefaultRecentWindow;
  KVATTEND_RETURN_IF_ERROR(
      CheckRange({"recent_window"}, params.recent_window, 0, limits.max_recent_window));
  params.shard = shard;
  return params;
}

absl::StatusOr<ListSessionsParams> ParseListSessions(const v1::ListSessionsRequest& request) {
  ListSessionsParams params;
  KVATTEND_RETURN_IF_ERROR(
      CheckRange({"page_size"}, request.page_size(), 0, std::numeric_limits<int32_t>::max()));
  params.page_size =
      request.page_size() == 0 ? kDefaultPageSize : std::min(request.page_size(), kMaxPageSize);
  KVATTEND_ASSIGN_OR_RETURN(params.after, ParsePageToken(request.page_token()));
  return params;
}

absl::StatusOr<CompressSessionParams> ParseCompressSession(
    const v1::CompressSessionRequest& request, const Limits& limits) {
  CompressSessionParams params;
  KVATTEND_ASSIGN_OR_RETURN(params.id, ParseSessionName(request.name(), {"name"}));
  if (request.has_keep_exact()) {
    KVATTEND_RETURN_IF_ERROR(
        CheckRange({"keep_exact"}, request.keep_exact(), 0, limits.max_recent_window));
    params.keep_exact = request.keep_exact();
  }
  params.has_codec = request.has_codec();
  return params;
}

absl::StatusOr<ForkSessionParams> ParseForkSession(const v1::ForkSessionRequest& request) {
  ForkSessionParams params;
  KVATTEND_ASSIGN_OR_RETURN(params.source, ParseSessionName(request.name(), {"name"}));
  if (!request.session_id().empty()) {
    KVATTEND_RETURN_IF_ERROR(ValidateSessionId(request.session_id(), {"session_id"}));
  }
  params.new_id = request.session_id();
  return params;
}

absl::StatusOr<TruncateSessionParams> ParseTruncateSession(
    const v1::TruncateSessionRequest& request) {
  TruncateSessionParams params;
  KVATTEND_ASSIGN_OR_RETURN(params.id, ParseSessionName(request.name(), {"name"}));
  KVATTEND_RETURN_IF_ERROR(
      CheckRange({"length"}, request.length(), 0, std::numeric_limits<int64_t>::max()));
  params.length = request.length();
  return params;
}

v1::Session ToProto(const SessionInfo& session) {
  v1::Session proto;
  proto.set_name(SessionName(session.id));
  auto* shape = proto.mutable_model_shape();
  shape->set_num_layers(session.shape.num_layers);
  shape->set_num_query_heads(session.shape.num_query_heads);
  shape->set_num_kv_heads(session.shape.num_kv_heads);
  shape->set_head_dim(session.shape.head_dim);
  *proto.mutable_codec() = ToProto(session.codec);
  proto.set_recent_window(session.recent_window);
  proto.set_revision(session.revision);
  const auto& lengths = session.layer_lengths;
  proto.set_length(lengths.empty() ? 0 : *std::min_element(lengths.begin(), lengths.end()));
  proto.mutable_layer_lengths()->Add(lengths.begin(), lengths.end());
  proto.set_stored_bytes(session.stored_bytes);
  proto.set_dense_bytes(session.dense_bytes);
  proto.set_shard(session.shard);
  const int64_t nanoseconds = absl::ToUnixNanos(session.create_time);
  constexpr int64_t kNanosPerSecond = 1000000000;
  proto.mutable_create_time()->set_seconds(nanoseconds / kNanosPerSecond);
  proto.mutable_create_time()->set_nanos(static_cast<int32_t>(nanoseconds % kNanosPerSecond));
  return proto;
}

}  // namespace kvattend
