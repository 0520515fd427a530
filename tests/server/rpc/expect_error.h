// What every error of the rpc layer must tell.
#ifndef KVATTEND_TESTS_SERVER_RPC_EXPECT_ERROR_H_
#define KVATTEND_TESTS_SERVER_RPC_EXPECT_ERROR_H_

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "server/base/error.h"

namespace kvattend {

inline void ExpectError(const absl::Status& status, absl::StatusCode code, absl::string_view reason,
                        absl::string_view field) {
  EXPECT_EQ(status.code(), code) << status;
  const ErrorDetails details = GetErrorDetails(status);
  EXPECT_EQ(details.reason, reason) << status;
  EXPECT_EQ(details.field.value_or(""), field) << status;
  EXPECT_TRUE(absl::StartsWith(status.message(), std::string(field))) << status;
}

inline void ExpectInvalid(const absl::Status& status, absl::string_view reason,
                          absl::string_view field) {
  ExpectError(status, absl::StatusCode::kInvalidArgument, reason, field);
}

inline std::map<std::string, std::string> MetadataOf(const absl::Status& status) {
  const ErrorDetails details = GetErrorDetails(status);
  return {details.metadata.begin(), details.metadata.end()};
}

}  // namespace kvattend

#endif  // KVATTEND_TESTS_SERVER_RPC_EXPECT_ERROR_H_
