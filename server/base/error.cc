#include "server/base/error.h"

#include <algorithm>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace kvattend {
namespace {

// A status keeps payloads by URL; each detail is one, so that none needs a format of its own.
constexpr absl::string_view kReasonUrl = "kvattend/reason";
constexpr absl::string_view kFieldUrl = "kvattend/field";
constexpr absl::string_view kRetryUrl = "kvattend/retry_after_nanos";
constexpr absl::string_view kSessionUrl = "kvattend/session";
constexpr absl::string_view kMetadataUrlPrefix = "kvattend/metadata/";

}  // namespace

Error::Error(absl::StatusCode code, absl::string_view reason, absl::string_view message)
    : status_(code, message) {
  status_.SetPayload(kReasonUrl, absl::Cord(reason));
}

Error& Error::With(absl::string_view key, absl::string_view value) {
  status_.SetPayload(absl::StrCat(kMetadataUrlPrefix, key), absl::Cord(value));
  return *this;
}

Error& Error::With(absl::string_view key, int64_t value) { return With(key, absl::StrCat(value)); }

Error& Error::Field(absl::string_view path) {
  status_.SetPayload(kFieldUrl, absl::Cord(path));
  return *this;
}

Error& Error::RetryAfter(absl::Duration delay) {
  status_.SetPayload(kRetryUrl, absl::Cord(absl::StrCat(absl::ToInt64Nanoseconds(delay))));
  return *this;
}

Error& Error::Session(absl::string_view id) {
  status_.SetPayload(kSessionUrl, absl::Cord(absl::StrCat("sessions/", id)));
  return *this;
}

ErrorDetails GetErrorDetails(const absl::Status& status) {
  ErrorDetails details;
  status.ForEachPayload([&details](absl::string_view url, const absl::Cord& payload) {
    std::string value(payload);
    if (url == kReasonUrl) {
      details.reason = std::move(value);
    } else if (url == kFieldUrl) {
      details.field = std::move(value);
    } else if (url == kSessionUrl) {
      details.session = std::move(value);
    } else if (url == kRetryUrl) {
      int64_t nanoseconds = 0;
      if (absl::SimpleAtoi(value, &nanoseconds)) {
        details.retry_after = absl::Nanoseconds(nanoseconds);
      }
    } else if (absl::ConsumePrefix(&url, kMetadataUrlPrefix)) {
      details.metadata.emplace_back(std::string(url), std::move(value));
    }
  });
  std::sort(details.metadata.begin(), details.metadata.end());
  return details;
}

}  // namespace kvattend
