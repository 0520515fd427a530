// What a call's metadata says: who asks, under which id, until when.
#ifndef KVATTEND_SERVER_RPC_REQUEST_CONTEXT_H_
#define KVATTEND_SERVER_RPC_REQUEST_CONTEXT_H_

#include <chrono>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "grpcpp/support/string_ref.h"

namespace kvattend {

using Metadata = std::multimap<grpc::string_ref, grpc::string_ref>;

inline constexpr char kRequestIdKey[] = "x-request-id";
inline constexpr char kTraceparentKey[] = "traceparent";
inline constexpr char kShardKey[] = "x-kvattend-shard";

// The caller's x-request-id if it is 1 to 128 printable ASCII characters without spaces, else a new
// one of 32 hexadecimal digits.
std::string RequestId(const Metadata& metadata);

// The caller's traceparent if it has the form of one (55 or more characters of [0-9a-f-], at most
// 128), else empty.
std::string Traceparent(const Metadata& metadata);

// The placement key; empty where none was sent. INVALID_ARGUMENT INVALID_SHARD if it is not sound
// or was sent twice with different values.
absl::StatusOr<std::string> Shard(const Metadata& metadata);

// gRPC's deadline; time_point::max is none.
absl::Time DeadlineTime(std::chrono::system_clock::time_point deadline);

}  // namespace kvattend

#endif  // KVATTEND_SERVER_RPC_REQUEST_CONTEXT_H_
