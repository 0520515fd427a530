#include "client/cpp/errors.h"

#include <gmock/gmock.h>
#include <grpcpp/support/status.h>
#include <gtest/gtest.h>

#include "client/cpp/status_conversion.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tests/client/cpp/test_server.h"

namespace kvattend::client {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

google::rpc::Status StatusWithEveryDetail() {
  google::rpc::Status status;
  status.set_code(grpc::StatusCode::ABORTED);
  status.set_message("expected position 64, found 128");
  google::rpc::ErrorInfo info;
  info.set_reason("POSITION_CONFLICT");
  info.set_domain("kvattend");
  (*info.mutable_metadata())["layer_0_position"] = "128";
  (*info.mutable_metadata())["revision"] = "1";
  status.add_details()->PackFrom(info);
  google::rpc::BadRequest bad_request;
  bad_request.add_field_violations()->set_field("items[3].num_tokens");
  bad_request.mutable_field_violations(0)->set_description("is 0");
  status.add_details()->PackFrom(bad_request);
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(1);
  retry.mutable_retry_delay()->set_nanos(500'000'000);
  status.add_details()->PackFrom(retry);
  google::rpc::ResourceInfo resource;
  resource.set_resource_name("sessions/chat-17");
  status.add_details()->PackFrom(resource);
  return status;
}

void ExpectEveryDetail(const absl::Status& status) {
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(status.message(), "expected position 64, found 128");
  const ErrorDetails details = GetErrorDetails(status);
  EXPECT_EQ(details.reason, "POSITION_CONFLICT");
  EXPECT_EQ(details.domain, "kvattend");
  EXPECT_THAT(details.metadata,
              ElementsAre(Pair("layer_0_position", "128"), Pair("revision", "1")));
  ASSERT_EQ(details.field_violations.size(), 1u);
  EXPECT_EQ(details.field_violations[0].field, "items[3].num_tokens");
  EXPECT_EQ(details.field_violations[0].description, "is 0");
  EXPECT_EQ(details.retry_after, absl::Milliseconds(1500));
  EXPECT_EQ(details.resource_name, "sessions/chat-17");
}

TEST(ErrorsTest, DetailsOfAnItem) { ExpectEveryDetail(FromProtoStatus(StatusWithEveryDetail())); }

TEST(ErrorsTest, DetailsOfACall) {
  const google::rpc::Status status = StatusWithEveryDetail();
  ExpectEveryDetail(FromGrpcStatus(
      grpc::Status(grpc::StatusCode::ABORTED, status.message(), status.SerializeAsString())));
}

TEST(ErrorsTest, OkIsOk) {
  EXPECT_TRUE(FromGrpcStatus(grpc::Status::OK).ok());
  EXPECT_TRUE(FromProtoStatus({}).ok());
}

TEST(ErrorsTest, StatusWithoutDetails) {
  for (const char* bytes : {"", "\xff\xff not a message"}) {
    const absl::Status status =
        FromGrpcStatus(grpc::Status(grpc::StatusCode::UNAVAILABLE, "connection refused", bytes));
    EXPECT_EQ(status, absl::UnavailableError("connection refused"));
    EXPECT_EQ(GetErrorDetails(status).reason, "");
    EXPECT_FALSE(GetErrorDetails(status).retry_after.has_value());
  }
}

TEST(ErrorsTest, CodesThatDoNotExistAreUnknown) {
  google::rpc::Status status;
  for (int code : {-1, 17, 1000}) {
    status.set_code(code);
    EXPECT_EQ(FromProtoStatus(status).code(), absl::StatusCode::kUnknown);
  }
}

TEST(ErrorsTest, DescribeErrorSaysAllInOneLine) {
  EXPECT_EQ(DescribeError(FromProtoStatus(StatusWithEveryDetail())),
            "ABORTED POSITION_CONFLICT: expected position 64, found 128 (layer_0_position=128, "
            "revision=1)");
  EXPECT_EQ(DescribeError(absl::NotFoundError("gone")), "NOT_FOUND: gone");
}

}  // namespace
}  // namespace kvattend::client
