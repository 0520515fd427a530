#include "server/rpc/grpc_status.h"

#include <string>

#include "absl/time/time.h"
#include "google/rpc/error_details.pb.h"
#include "gtest/gtest.h"
#include "server/base/error.h"

namespace kvattend {
namespace {

// The detail of a type, if the status has exactly one.
template <typename Detail>
std::optional<Detail> Find(const google::rpc::Status& status) {
  std::optional<Detail> found;
  for (const auto& any : status.details()) {
    if (!any.Is<Detail>()) continue;
    EXPECT_FALSE(found.has_value());
    found.emplace();
    EXPECT_TRUE(any.UnpackTo(&*found));
  }
  return found;
}

TEST(GrpcStatusTest, OkIsEmpty) {
  EXPECT_EQ(ToRpcStatus(absl::OkStatus()).ByteSizeLong(), 0u);
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
  EXPECT_EQ(ToGrpcStatus(absl::OkStatus()).error_details(), "");
}

TEST(GrpcStatusTest, CarriesEveryDetail) {
  const absl::Status status = Error(absl::StatusCode::kAborted, "POSITION_CONFLICT", "they differ")
                                  .With("revision", 7)
                                  .Field("items[2].expected_position")
                                  .RetryAfter(absl::Milliseconds(1500))
                                  .Session("a");
  const google::rpc::Status proto = ToRpcStatus(status);
  EXPECT_EQ(proto.code(), 10);
  EXPECT_EQ(proto.message(), "they differ");
  EXPECT_EQ(proto.details_size(), 4);

  const auto info = Find<google::rpc::ErrorInfo>(proto);
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->reason(), "POSITION_CONFLICT");
  EXPECT_EQ(info->domain(), "kvattend");
  EXPECT_EQ(info->metadata().at("revision"), "7");

  const auto bad_request = Find<google::rpc::BadRequest>(proto);
  ASSERT_TRUE(bad_request.has_value());
  ASSERT_EQ(bad_request->field_violations_size(), 1);
  EXPECT_EQ(bad_request->field_violations(0).field(), "items[2].expected_position");
  EXPECT_EQ(bad_request->field_violations(0).description(), "they differ");

  const auto retry = Find<google::rpc::RetryInfo>(proto);
  ASSERT_TRUE(retry.has_value());
  EXPECT_EQ(retry->retry_delay().seconds(), 1);
  EXPECT_EQ(retry->retry_delay().nanos(), 500000000);

  const auto resource = Find<google::rpc::ResourceInfo>(proto);
  ASSERT_TRUE(resource.has_value());
  EXPECT_EQ(resource->resource_type(), "kvattend.v1.Session");
  EXPECT_EQ(resource->resource_name(), "sessions/a");
}

TEST(GrpcStatusTest, GrpcDetailsAreTheRpcStatus) {
  const absl::Status status = Error(absl::StatusCode::kNotFound, "SESSION_NOT_FOUND", "none");
  const grpc::Status converted = ToGrpcStatus(status);
  EXPECT_EQ(converted.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(converted.error_message(), "none");
  google::rpc::Status proto;
  ASSERT_TRUE(proto.ParseFromString(converted.error_details()));
  EXPECT_EQ(proto.SerializeAsString(), ToRpcStatus(status).SerializeAsString());
}

TEST(GrpcStatusTest, EveryCodeHasAReason) {
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "of a kernel");
    const google::rpc::Status proto = ToRpcStatus(status);
    EXPECT_EQ(proto.code(), code);
    const auto info = Find<google::rpc::ErrorInfo>(proto);
    ASSERT_TRUE(info.has_value());
    EXPECT_FALSE(info->reason().empty());
    for (const char c : info->reason()) EXPECT_TRUE(('A' <= c && c <= 'Z') || c == '_');
    EXPECT_EQ(Find<google::rpc::RetryInfo>(proto).has_value(),
              status.code() == absl::StatusCode::kUnavailable);
  }
  EXPECT_EQ(ErrorReason(absl::UnavailableError("")), "DEVICE_FAULT");
}

TEST(GrpcStatusTest, TextIsSafeAndShort) {
  const std::string hostile = std::string("\xff\xfe\0", 3) + std::string(1 << 20, 'x');
  const google::rpc::Status proto = ToRpcStatus(absl::InternalError(hostile));
  EXPECT_EQ(proto.message().size(), 1024u);
  EXPECT_EQ(proto.message().substr(0, 4), "???x");
}

}  // namespace
}  // namespace kvattend
