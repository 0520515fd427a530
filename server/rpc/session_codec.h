// kvattend.v1 session messages to the engine's parameters, and back. Everything that can be checked
// without a session is checked here.
//
// Thread-safe: pure functions. Errors are INVALID_ARGUMENT and name the field.
#ifndef KVATTEND_SERVER_RPC_SESSION_CODEC_H_
#define KVATTEND_SERVER_RPC_SESSION_CODEC_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/codec/codec_spec.h"
#include "kvattend/v1/session_service.pb.h"
#include "kvattend/v1/types.pb.h"
#include "server/engine/engine.h"
#include "server/rpc/limits.h"
#include "server/store/session_info.h"

namespace kvattend {

// A preset, or keys and values, or all three where they agree; balanced where none is given.
// INVALID_CODEC.
absl::StatusOr<CodecSpec> ParseCodec(const v1::Codec& codec, int head_dim);
v1::Codec ToProto(const CodecSpec& codec);

absl::StatusOr<CreateSessionParams> ParseCreateSession(const v1::CreateSessionRequest& request,
                                                       const Limits& limits,
                                                       const std::string& shard);

struct ListSessionsParams {
  std::string after;
  int page_size = 0;
};
absl::StatusOr<ListSessionsParams> ParseListSessions(const v1::ListSessionsRequest& request);

struct CompressSessionParams {
  std::string id;
  std::optional<int64_t> keep_exact;
  // Whether the request has a codec: it can be parsed once the session's head_dim is known.
  bool has_codec = false;
};
absl::StatusOr<CompressSessionParams> ParseCompressSession(
    const v1::CompressSessionRequest& request, const Limits& limits);

struct ForkSessionParams {
  std::string source;
  // Empty: the engine chooses.
  std::string new_id;
};
absl::StatusOr<ForkSessionParams> ParseForkSession(const v1::ForkSessionRequest& request);

struct TruncateSessionParams {
  std::string id;
  int64_t length = 0;
};
absl::StatusOr<TruncateSessionParams> ParseTruncateSession(
    const v1::TruncateSessionRequest& request);

v1::Session ToProto(const SessionInfo& session);

}  // namespace kvattend

#endif  // KVATTEND_SERVER_RPC_SESSION_CODEC_H_
