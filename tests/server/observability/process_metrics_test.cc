#include "server/observability/process_metrics.h"

#include <map>
#include <string>

#include "gtest/gtest.h"

namespace kvattend {
namespace {

TEST(ProcessMetricsTest, ParsesStatWithAnyName) {
  const auto stat = ParseProcessStat(
      "12 (a) b (c) S 1 12 12 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 7700 1048576 300 "
      "18446744073709551615 1 1 0 0");
  ASSERT_TRUE(stat.has_value());
  EXPECT_EQ(stat->cpu_ticks, 300);
  EXPECT_EQ(stat->start_ticks, 7700);
  EXPECT_EQ(stat->virtual_bytes, 1048576);
  EXPECT_EQ(stat->resident_pages, 300);
}

TEST(ProcessMetricsTest, RefusesWhatIsNoStat) {
  EXPECT_FALSE(ParseProcessStat("").has_value());
  EXPECT_FALSE(ParseProcessStat("12 (a) S 1").has_value());
  EXPECT_FALSE(ParseProcessStat("no parenthesis").has_value());
}

TEST(ProcessMetricsTest, ParsesLimitsAndBootTime) {
  EXPECT_EQ(ParseMaxOpenFiles("Limit  Soft\nMax open files            1024      4096   files\n"),
            1024);
  EXPECT_FALSE(ParseMaxOpenFiles("Max open files unlimited unlimited files").has_value());
  EXPECT_FALSE(ParseMaxOpenFiles("").has_value());
  EXPECT_EQ(ParseBootTime("cpu 1 2\nbtime 1700000000\nprocesses 5\n"), 1700000000);
  EXPECT_FALSE(ParseBootTime("cpu 1 2").has_value());
}

TEST(ProcessMetricsTest, ReadsThisProcess) {
  std::map<std::string, double> values;
  for (const auto& family : ProcessMetrics().Collect()) {
    ASSERT_EQ(family.metric.size(), 1u);
    values[family.name] = family.type == prometheus::MetricType::Counter
                              ? family.metric[0].counter.value
                              : family.metric[0].gauge.value;
  }
  EXPECT_EQ(values.size(), 6u);
  EXPECT_GT(values.at("process_resident_memory_bytes"), 1 << 20);
  EXPECT_GT(values.at("process_virtual_memory_bytes"), values.at("process_resident_memory_bytes"));
  EXPECT_GE(values.at("process_open_fds"), 1);
  EXPECT_GT(values.at("process_max_fds"), values.at("process_open_fds"));
  EXPECT_GT(values.at("process_start_time_seconds"), 1.5e9);
  EXPECT_GE(values.at("process_cpu_seconds_total"), 0);
}

}  // namespace
}  // namespace kvattend
