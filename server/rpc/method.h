// The methods that this server has.
#ifndef KVATTEND_SERVER_RPC_METHOD_H_
#define KVATTEND_SERVER_RPC_METHOD_H_

#include "absl/strings/string_view.h"

namespace kvattend {

enum class Method {
  kCreateSession,
  kGetSession,
  kListSessions,
  kDeleteSession,
  kCompressSession,
  kForkSession,
  kTruncateSession,
  kAppend,
  kAttend,
  kComputeScores,
  kCompress,
  kDecompress,
  kGetServerInfo,
};
inline constexpr int kNumMethods = 13;

// "kvattend.v1.AttentionService/Append".
absl::string_view MethodName(Method method);

// Whether it moves tensors: called so often that a log line each is for debugging.
constexpr bool IsDataPlane(Method method) {
  return method == Method::kAppend || method == Method::kAttend ||
         method == Method::kComputeScores || method == Method::kCompress ||
         method == Method::kDecompress;
}

}  // namespace kvattend

#endif  // KVATTEND_SERVER_RPC_METHOD_H_
