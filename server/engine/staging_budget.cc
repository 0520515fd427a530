#include "server/engine/staging_budget.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/error.h"
#include "server/engine/engine_state.h"

namespace kvattend {
namespace {

// Long enough for a part of what waits to run.
constexpr absl::Duration kRetry = absl::Milliseconds(100);

}  // namespace

absl::StatusOr<StagingBuffer> StagingBudget::Allocate(size_t size_bytes) {
  const auto size = static_cast<int64_t>(size_bytes);
  const int64_t held = held_bytes_.fetch_add(size, std::memory_order_relaxed);
  if (held > 0 && held + size > max_bytes_) {
    held_bytes_.fetch_sub(size, std::memory_order_relaxed);
    metrics_.Rejected(RejectReason::kQueueFull);
    return Error(absl::StatusCode::kUnavailable, "QUEUE_FULL",
                 absl::StrCat("the tensors of requests that wait take ", held, " of ", max_bytes_,
                              " bytes, this one's ", size))
        .RetryAfter(kRetry);
  }
  absl::StatusOr<StagingBuffer> buffer = backend_.AllocateStaging(size_bytes);
  if (!buffer.ok()) {
    held_bytes_.fetch_sub(size, std::memory_order_relaxed);
    return FromBackend(buffer.status());
  }
  auto release = std::move(buffer->get_deleter());
  return StagingBuffer(buffer->release(),
                       [this, size, release = std::move(release)](std::byte* bytes) {
                         release(bytes);
                         held_bytes_.fetch_sub(size, std::memory_order_relaxed);
                       });
}

}  // namespace kvattend
