#include "server/rpc/server_service.h"

#include "server/rpc/session_codec.h"

namespace kvattend {
namespace {

// What presets are stated for.
constexpr int kPresetHeadDim = 128;

v1::Codec ToProto(const CodecPreset& preset) {
  return kvattend::ToProto(
      CodecSpec{.head_dim = kPresetHeadDim, .keys = preset.keys, .values = preset.values});
}

v1::Limits ToProto(const Limits& limits) {
  v1::Limits proto;
  proto.set_max_message_bytes(limits.max_message_bytes);
  proto.set_max_items_per_call(limits.max_items_per_call);
  proto.set_max_query_tokens(limits.max_query_tokens);
  proto.set_max_layers(limits.max_layers);
  proto.set_max_kv_heads(limits.max_kv_heads);
  proto.set_max_query_heads(limits.max_query_heads);
  proto.set_max_top_k(limits.max_top_k);
  proto.set_max_block_bytes(limits.max_block_bytes);
  proto.set_max_sessions(limits.max_sessions);
  proto.set_max_recent_window(limits.max_recent_window);
  return proto;
}

}  // namespace

v1::GetServerInfoResponse MakeServerInfo(const BuildInfo& build, const DeviceInfo& device,
                                         const Limits& limits, const MemoryUse& memory) {
  v1::GetServerInfoResponse info;
  info.set_version(build.version);
  info.mutable_device()->set_kind(device.kind);
  info.mutable_device()->set_name(device.name);
  for (const CodecPreset& preset : CodecPresets()) *info.add_codecs() = ToProto(preset);
  for (const int head_dim : {64, 128, 256}) info.add_head_dims(head_dim);
  for (const v1::DataType dtype :
       {v1::DATA_TYPE_FLOAT16, v1::DATA_TYPE_BFLOAT16, v1::DATA_TYPE_FLOAT32}) {
    info.add_dtypes(dtype);
  }
  *info.mutable_limits() = ToProto(limits);
  info.set_kv_capacity_bytes(memory.capacity_bytes);
  info.set_kv_used_bytes(memory.kv_bytes);
  info.set_num_sessions(memory.num_sessions);
  for (const std::string& capability : build.missing_capabilities) {
    info.add_missing_capabilities(capability);
  }
  return info;
}

grpc::ServerUnaryReactor* ServerService::GetServerInfo(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request,
                                                       grpc::ByteBuffer* response) {
  return Call::Start<v1::GetServerInfoRequest>(
      environment_, Method::kGetServerInfo, context, request, response,
      [this](const v1::GetServerInfoRequest&, Call* call) -> absl::Status {
        const Engine& engine = *environment_.engine;
        call->Reply(MakeServerInfo(build_, engine.backend().device(), environment_.limits,
                                   engine.memory_use()));
        return absl::OkStatus();
      });
}

}  // namespace kvattend
