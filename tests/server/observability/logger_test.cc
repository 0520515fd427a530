#include "server/observability/logger.h"

#include <memory>
#include <sstream>
#include <string>

#include "gmock/gmock.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/json_util.h"
#include "gtest/gtest.h"
#include "spdlog/sinks/ostream_sink.h"

namespace kvattend {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

TEST(FormatLogLineTest, TextQuotesOnlyWhatNeedsIt) {
  EXPECT_EQ(FormatLogLine(LogFormat::kText, "call", {}), "call");
  EXPECT_EQ(FormatLogLine(LogFormat::kText, "call",
                          {{"method", "a.B/C"}, {"items", 3}, {"error", "no such \"x\"\n"}}),
            "call method=a.B/C items=3 error=\"no such \\\"x\\\"\\n\"");
  EXPECT_EQ(FormatLogLine(LogFormat::kText, "call", {{"peer", ""}}), "call peer=\"\"");
}

TEST(FormatLogLineTest, JsonIsJsonWhateverIsInIt) {
  std::string everything;
  for (int c = 0; c < 128; ++c) everything += static_cast<char>(c);
  const std::string line = FormatLogLine(LogFormat::kJson, "a \"message\"\\",
                                         {{"text", everything}, {"count", 3}, {"ms", 0.25}});
  EXPECT_EQ(line.find('\n'), std::string::npos);
  google::protobuf::Struct object;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage("{" + line + "}", &object).ok()) << line;
  EXPECT_EQ(object.fields().at("message").string_value(), "a \"message\"\\");
  EXPECT_EQ(object.fields().at("text").string_value(), everything);
  EXPECT_EQ(object.fields().at("count").number_value(), 3);
  EXPECT_EQ(object.fields().at("ms").number_value(), 0.25);
}

TEST(FormatLogLineTest, OtherBytesAreEscaped) {
  EXPECT_EQ(FormatLogLine(LogFormat::kJson, "\xff", {}), "\"message\":\"\\u00ff\"");
  EXPECT_EQ(FormatLogLine(LogFormat::kText, "a", {{"b", "\xff"}}), "a b=\"\\xff\"");
}

TEST(LoggerTest, WritesLinesOfItsLevelAndAbove) {
  std::ostringstream out;
  Logger logger(LogFormat::kText, spdlog::level::info,
                std::make_shared<spdlog::sinks::ostream_sink_mt>(out));
  logger.Log(spdlog::level::debug, "hidden");
  logger.Info("shown", {{"key", "value"}});
  EXPECT_THAT(out.str(), MatchesRegex("[0-9-]+T[0-9:.]+Z info shown key=value\n"));
}

TEST(LoggerTest, JsonLinesHaveTimeAndLevel) {
  std::ostringstream out;
  Logger logger(LogFormat::kJson, spdlog::level::debug,
                std::make_shared<spdlog::sinks::ostream_sink_mt>(out));
  logger.Warning("{} %v", {{"key", "{0}"}});
  google::protobuf::Struct object;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(out.str(), &object).ok()) << out.str();
  EXPECT_EQ(object.fields().at("level").string_value(), "warning");
  EXPECT_EQ(object.fields().at("message").string_value(), "{} %v");
  EXPECT_EQ(object.fields().at("key").string_value(), "{0}");
  EXPECT_THAT(object.fields().at("time").string_value(), HasSubstr("T"));
}

TEST(LoggerTest, ParsesNames) {
  EXPECT_EQ(*ParseLogFormat("text"), LogFormat::kText);
  EXPECT_EQ(*ParseLogFormat("json"), LogFormat::kJson);
  EXPECT_FALSE(ParseLogFormat("xml").ok());
  EXPECT_EQ(*ParseLogLevel("debug"), spdlog::level::debug);
  EXPECT_EQ(*ParseLogLevel("warning"), spdlog::level::warn);
  EXPECT_EQ(*ParseLogLevel("off"), spdlog::level::off);
  EXPECT_FALSE(ParseLogLevel("loud").ok());
}

}  // namespace
}  // namespace kvattend
