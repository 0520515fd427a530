#include "server/base/error.h"

#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvattend {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

TEST(ErrorTest, CarriesEveryDetail) {
  const absl::Status status = Error(absl::StatusCode::kAborted, "POSITION_CONFLICT", "they differ")
                                  .With("revision", 7)
                                  .With("layer_3_position", "65")
                                  .Field("items[2].expected_position")
                                  .RetryAfter(absl::Milliseconds(1500))
                                  .Session("a");
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(status.message(), "they differ");
  const ErrorDetails details = GetErrorDetails(status);
  EXPECT_EQ(details.reason, "POSITION_CONFLICT");
  EXPECT_THAT(details.metadata, ElementsAre(Pair("layer_3_position", "65"), Pair("revision", "7")));
  EXPECT_EQ(details.field, "items[2].expected_position");
  EXPECT_EQ(details.retry_after, absl::Milliseconds(1500));
  EXPECT_EQ(details.session, "sessions/a");
}

TEST(ErrorTest, LeavesOutWhatWasNotSaid) {
  const ErrorDetails details =
      GetErrorDetails(Error(absl::StatusCode::kNotFound, "SESSION_NOT_FOUND", "no"));
  EXPECT_EQ(details.reason, "SESSION_NOT_FOUND");
  EXPECT_THAT(details.metadata, IsEmpty());
  EXPECT_FALSE(details.field.has_value());
  EXPECT_FALSE(details.retry_after.has_value());
  EXPECT_FALSE(details.session.has_value());
}

TEST(ErrorTest, TheLastValueOfAKeyCounts) {
  const absl::Status status =
      Error(absl::StatusCode::kInternal, "X", "").With("key", 1).With("key", 2);
  EXPECT_THAT(GetErrorDetails(status).metadata, ElementsAre(Pair("key", "2")));
}

TEST(ErrorTest, IsAStatusOrToo) {
  const absl::StatusOr<int> result = Error(absl::StatusCode::kOutOfRange, "X", "message");
  EXPECT_EQ(result.status().code(), absl::StatusCode::kOutOfRange);
}

TEST(ErrorTest, ReadsStatusesOfOthers) {
  absl::Status status = absl::InternalError("other");
  status.SetPayload("elsewhere/reason", absl::Cord("no"));
  const ErrorDetails details = GetErrorDetails(status);
  EXPECT_EQ(details.reason, "");
  EXPECT_THAT(details.metadata, IsEmpty());
  EXPECT_EQ(GetErrorDetails(absl::OkStatus()).reason, "");
}

}  // namespace
}  // namespace kvattend
