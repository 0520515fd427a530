#include "server/observability/call_monitor.h"

#include <memory>
#include <sstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "spdlog/sinks/ostream_sink.h"

namespace kvattend {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CallMonitorTest : public ::testing::Test {
 protected:
  std::ostringstream log_;
  PrometheusMetrics metrics_{"1", "c", "cpu"};
  Logger logger_{LogFormat::kText, spdlog::level::info,
                 std::make_shared<spdlog::sinks::ostream_sink_mt>(log_)};
  CallMonitor monitor_{&metrics_, &logger_};
};

TEST_F(CallMonitorTest, TheDataPlanesSuccessesAreQuiet) {
  monitor_.CallFinished({.method = Method::kAttend, .request_id = "r1", .num_items = 2});
  EXPECT_THAT(log_.str(), IsEmpty());
}

TEST_F(CallMonitorTest, FailedItemsAreLogged) {
  monitor_.CallFinished(
      {.method = Method::kAttend, .request_id = "r1", .num_items = 2, .num_failed_items = 1});
  EXPECT_THAT(log_.str(), HasSubstr("request_id=r1 method=kvattend.v1.AttentionService/Attend "
                                    "status=OK"));
  EXPECT_THAT(log_.str(), HasSubstr("items=2 failed_items=1"));
}

TEST_F(CallMonitorTest, TheControlPlaneIsLogged) {
  monitor_.CallFinished({.method = Method::kCreateSession,
                         .request_id = "r2",
                         .traceparent = "00-aa-bb-01",
                         .peer = "ipv4:127.0.0.1:5",
                         .duration = absl::Microseconds(1500)});
  EXPECT_THAT(log_.str(), HasSubstr("info call request_id=r2 "
                                    "method=kvattend.v1.SessionService/CreateSession status=OK "
                                    "duration_ms=1.5 peer=ipv4:127.0.0.1:5 "
                                    "traceparent=00-aa-bb-01\n"));
}

TEST_F(CallMonitorTest, ErrorsAreLoggedWithTheirReason) {
  monitor_.CallFinished({.method = Method::kAppend,
                         .request_id = "r3",
                         .status = absl::InvalidArgumentError("keys: expected 4 bytes"),
                         .reason = "BYTE_COUNT_MISMATCH"});
  EXPECT_THAT(log_.str(), HasSubstr("status=INVALID_ARGUMENT"));
  EXPECT_THAT(log_.str(),
              HasSubstr("reason=BYTE_COUNT_MISMATCH error=\"keys: expected 4 bytes\"\n"));
}

}  // namespace
}  // namespace kvattend
