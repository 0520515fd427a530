#include "server/rpc/method.h"

#include "kernels/base/check.h"

namespace kvattend {

absl::string_view MethodName(Method method) {
  switch (method) {
    case Method::kCreateSession:
      return "kvattend.v1.SessionService/CreateSession";
    case Method::kGetSession:
      return "kvattend.v1.SessionService/GetSession";
    case Method::kListSessions:
      return "kvattend.v1.SessionService/ListSessions";
    case Method::kDeleteSession:
      return "kvattend.v1.SessionService/DeleteSession";
    case Method::kCompressSession:
      return "kvattend.v1.SessionService/CompressSession";
    case Method::kForkSession:
      return "kvattend.v1.SessionService/ForkSession";
    case Method::kTruncateSession:
      return "kvattend.v1.SessionService/TruncateSession";
    case Method::kAppend:
      return "kvattend.v1.AttentionService/Append";
    case Method::kAttend:
      return "kvattend.v1.AttentionService/Attend";
    case Method::kComputeScores:
      return "kvattend.v1.AttentionService/ComputeScores";
    case Method::kCompress:
      return "kvattend.v1.CodecService/Compress";
    case Method::kDecompress:
      return "kvattend.v1.CodecService/Decompress";
    case Method::kGetServerInfo:
      return "kvattend.v1.ServerService/GetServerInfo";
  }
  KVATTEND_CHECK(false);
  return "";
}

}  // namespace kvattend
