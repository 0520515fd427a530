#include "server/rpc/request_context.h"

#include <algorithm>
#include <random>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "server/rpc/names.h"

namespace kvattend {
namespace {

constexpr size_t kMaxIdLength = 128;
// version-trace-parent-flags of W3C's trace context: 2 + 1 + 32 + 1 + 16 + 1 + 2.
constexpr size_t kMinTraceparentLength = 55;

absl::string_view First(const Metadata& metadata, absl::string_view key) {
  const auto found = metadata.find(grpc::string_ref(key.data(), key.size()));
  if (found == metadata.end()) return {};
  return {found->second.data(), found->second.size()};
}

std::string NewRequestId() {
  thread_local std::mt19937_64 generator(std::random_device{}());
  const uint64_t high = generator();
  return absl::StrFormat("%016x%016x", high, generator());
}

}  // namespace

std::string RequestId(const Metadata& metadata) {
  const absl::string_view sent = First(metadata, kRequestIdKey);
  const bool sane = std::all_of(sent.begin(), sent.end(), [](char c) {
    return absl::ascii_isgraph(static_cast<unsigned char>(c));
  });
  if (sane && !sent.empty() && sent.size() <= kMaxIdLength) return std::string(sent);
  return NewRequestId();
}

std::string Traceparent(const Metadata& metadata) {
  const absl::string_view sent = First(metadata, kTraceparentKey);
  const bool sane = std::all_of(sent.begin(), sent.end(), [](char c) {
    return ('0' <= c && c <= '9') || ('a' <= c && c <= 'f') || c == '-';
  });
  if (!sane || sent.size() < kMinTraceparentLength || sent.size() > kMaxIdLength) return {};
  return std::string(sent);
}

absl::StatusOr<std::string> Shard(const Metadata& metadata) {
  const auto [begin, end] = metadata.equal_range(kShardKey);
  if (begin == end) return std::string();
  const std::string shard(begin->second.data(), begin->second.size());
  if (absl::Status status = ValidateShard(shard); !status.ok()) return status;
  for (auto other = std::next(begin); other != end; ++other) {
    if (other->second != begin->second) {
      return InvalidField("INVALID_SHARD", {kShardKey}, "expected one value, found several");
    }
  }
  return shard;
}

absl::Time DeadlineTime(std::chrono::system_clock::time_point deadline) {
  if (deadline == std::chrono::system_clock::time_point::max()) return absl::InfiniteFuture();
  return absl::FromChrono(deadline);
}

}  // namespace kvattend
