#include "client/cli/json.h"

#include <string>

#include "absl/time/time.h"
#include "client/cli/values.h"

namespace kvattend::cli {
namespace {

Json ToJson(const v1::VectorFormat& format) {
  return {{"kept", format.kept()}, {"bits", format.bits()}};
}

Json ToJson(const v1::Limits& limits) {
  return {{"max_message_bytes", limits.max_message_bytes()},
          {"max_items_per_call", limits.max_items_per_call()},
          {"max_query_tokens", limits.max_query_tokens()},
          {"max_layers", limits.max_layers()},
          {"max_query_heads", limits.max_query_heads()},
          {"max_kv_heads", limits.max_kv_heads()},
          {"max_top_k", limits.max_top_k()},
          {"max_block_bytes", limits.max_block_bytes()},
          {"max_sessions", limits.max_sessions()},
          {"max_recent_window", limits.max_recent_window()}};
}

}  // namespace

Json ToJson(const v1::Codec& codec) {
  return {{"preset", codec.preset()},
          {"keys", ToJson(codec.keys())},
          {"values", ToJson(codec.values())}};
}

Json ToJson(const v1::Session& session) {
  const v1::ModelShape& shape = session.model_shape();
  const absl::Time created = absl::FromUnixSeconds(session.create_time().seconds()) +
                             absl::Nanoseconds(session.create_time().nanos());
  return {{"name", session.name()},
          {"model_shape",
           {{"num_layers", shape.num_layers()},
            {"num_query_heads", shape.num_query_heads()},
            {"num_kv_heads", shape.num_kv_heads()},
            {"head_dim", shape.head_dim()}}},
          {"codec", ToJson(session.codec())},
          {"recent_window", session.recent_window()},
          {"revision", session.revision()},
          {"length", session.length()},
          {"layer_lengths", session.layer_lengths()},
          {"stored_bytes", session.stored_bytes()},
          {"dense_bytes", session.dense_bytes()},
          {"shard", session.shard()},
          {"create_time", absl::FormatTime(created, absl::UTCTimeZone())}};
}

Json ToJson(const v1::GetServerInfoResponse& info) {
  Json codecs = Json::array();
  for (const v1::Codec& codec : info.codecs()) codecs.push_back(ToJson(codec));
  Json dtypes = Json::array();
  for (int dtype : info.dtypes()) {
    dtypes.push_back(DataTypeText(static_cast<v1::DataType>(dtype)));
  }
  return {{"version", info.version()},
          {"device", {{"kind", info.device().kind()}, {"name", info.device().name()}}},
          {"kv_capacity_bytes", info.kv_capacity_bytes()},
          {"kv_used_bytes", info.kv_used_bytes()},
          {"num_sessions", info.num_sessions()},
          {"codecs", codecs},
          {"head_dims", info.head_dims()},
          {"dtypes", dtypes},
          {"limits", ToJson(info.limits())},
          {"missing_capabilities", info.missing_capabilities()}};
}

void PrintJson(const Json& json, std::ostream& out) { out << json.dump(2) << "\n"; }

}  // namespace kvattend::cli
