#include "client/cli/metrics_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace kvattend::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;
using ::testing::SizeIs;

constexpr char kText[] = R"(# HELP kvattend_kv_bytes Bytes.
# TYPE kvattend_kv_bytes gauge
kvattend_kv_bytes{tier="compressed"} 1024
kvattend_kv_bytes{tier="exact"} 2.5e+02 1700000000000

kvattend_sessions 3
odd{path="a\\b\"c\nd{,}",other="x"} +Inf
# TYPE call_seconds histogram
call_seconds_bucket{method="A",status="OK",le="0.001"} 10
call_seconds_bucket{method="A",status="OK",le="0.002"} 30
call_seconds_bucket{method="A",status="OK",le="0.004"} 30
call_seconds_bucket{method="A",status="OK",le="+Inf"} 40
call_seconds_sum{method="A",status="OK"} 0.5
call_seconds_count{method="A",status="OK"} 40
call_seconds_bucket{method="A",status="NOT_FOUND",le="0.001"} 0
call_seconds_bucket{method="A",status="NOT_FOUND",le="0.002"} 10
call_seconds_bucket{method="A",status="NOT_FOUND",le="0.004"} 10
call_seconds_bucket{method="A",status="NOT_FOUND",le="+Inf"} 10
call_seconds_sum{method="A",status="NOT_FOUND"} 0.25
call_seconds_count{method="A",status="NOT_FOUND"} 10
call_seconds_bucket{method="B",status="OK",le="0.001"} 0
call_seconds_bucket{method="B",status="OK",le="+Inf"} 0
call_seconds_sum{method="B",status="OK"} 0
call_seconds_count{method="B",status="OK"} 0
)";

std::vector<Sample> Parsed() { return ParseMetrics(kText).value(); }

TEST(MetricsTextTest, ReadsSamples) {
  const std::vector<Sample> samples = Parsed();
  EXPECT_EQ(samples[0].name, "kvattend_kv_bytes");
  EXPECT_THAT(samples[0].labels, ElementsAre(Pair("tier", "compressed")));
  EXPECT_EQ(samples[0].value, 1024);
  EXPECT_EQ(samples[1].value, 250);
  EXPECT_EQ(samples[2].value, 3);
  EXPECT_THAT(samples[2].labels, SizeIs(0));
  EXPECT_THAT(samples[3].labels, ElementsAre(Pair("other", "x"), Pair("path", "a\\b\"c\nd{,}")));
  EXPECT_TRUE(std::isinf(samples[3].value));
}

TEST(MetricsTextTest, RefusesWhatIsNotMetrics) {
  for (const char* text : {"name", "name{", "name{a=\"b\" 1", "name{a=b} 1", "name one",
                           "name 1 2 3", "<html>not found</html>", "{a=\"b\"} 1", "name{a=\"b\\"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseMetrics(text).status())) << text;
  }
  EXPECT_TRUE(ParseMetrics("")->empty());
}

TEST(MetricsTextTest, SumsOverLabels) {
  EXPECT_EQ(SumOf(Parsed(), "kvattend_kv_bytes"), 1274);
  EXPECT_EQ(SumOf(Parsed(), "kvattend_kv_bytes", {{"tier", "exact"}}), 250);
  EXPECT_FALSE(SumOf(Parsed(), "kvattend_kv_bytes", {{"tier", "disk"}}).has_value());
  EXPECT_FALSE(SumOf(Parsed(), "kvattend_kv").has_value());
}

TEST(MetricsTextTest, HistogramsByLabels) {
  const auto by_both = HistogramsOf(Parsed(), "call_seconds", {"method", "status"});
  ASSERT_THAT(by_both, SizeIs(2));  // B has seen nothing
  EXPECT_THAT(by_both[1].labels, ElementsAre(Pair("method", "A"), Pair("status", "OK")));
  EXPECT_EQ(by_both[1].count(), 40);
  EXPECT_EQ(by_both[1].sum, 0.5);

  const auto by_method = HistogramsOf(Parsed(), "call_seconds", {"method"});
  ASSERT_THAT(by_method, SizeIs(1));
  EXPECT_EQ(by_method[0].count(), 50);
  EXPECT_EQ(by_method[0].buckets.at(0.002), 40);
  EXPECT_EQ(by_method[0].sum, 0.75);
}

TEST(MetricsTextTest, QuantilesAreThoseOfPrometheus) {
  const Histogram ok = HistogramsOf(Parsed(), "call_seconds", {"status"})[1];
  // Rank 10 of 40 is the end of the first bucket, rank 20 the middle of the second.
  EXPECT_DOUBLE_EQ(Quantile(ok, 0.25), 0.001);
  EXPECT_DOUBLE_EQ(Quantile(ok, 0.125), 0.0005);
  EXPECT_DOUBLE_EQ(Quantile(ok, 0.5), 0.0015);
  EXPECT_DOUBLE_EQ(Quantile(ok, 0.75), 0.002);
  // In the last bucket, all that is known is its lower bound.
  EXPECT_DOUBLE_EQ(Quantile(ok, 0.99), 0.004);
  EXPECT_DOUBLE_EQ(Quantile(ok, 0), 0);
  EXPECT_EQ(Quantile({}, 0.5), 0);
}

}  // namespace
}  // namespace kvattend::cli
