#include "client/cli/arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

namespace kvattend::cli {
namespace {

using ::testing::ElementsAre;

CommandSpec Spec() {
  CommandSpec spec;
  spec.name = "copy";
  spec.positionals = "SOURCE [TARGET]";
  spec.min_positionals = 1;
  spec.max_positionals = 2;
  spec.options = {{"count", "N", "how many", "3"},
                  {"force", "", "no questions", ""},
                  {"wait", "DURATION", "how long", "2s"},
                  FormatOption()};
  return spec;
}

absl::StatusOr<Arguments> Parse(const std::vector<std::string>& arguments) {
  return Arguments::Parse(Spec(), arguments);
}

TEST(ArgumentsTest, ReadsOptionsInBothForms) {
  const auto arguments = Parse({"a", "--count=5", "--force", "--format", "json", "b"});
  ASSERT_TRUE(arguments.ok()) << arguments.status();
  EXPECT_THAT(arguments->positionals(), ElementsAre("a", "b"));
  EXPECT_EQ(arguments->GetInt("count", 0).value(), 5);
  EXPECT_TRUE(arguments->Has("force"));
  EXPECT_TRUE(arguments->WantsJson().value());
}

TEST(ArgumentsTest, DefaultsApply) {
  const auto arguments = Parse({"a"});
  ASSERT_TRUE(arguments.ok());
  EXPECT_EQ(arguments->Get("count"), "3");
  EXPECT_FALSE(arguments->Has("count"));
  EXPECT_FALSE(arguments->Has("force"));
  EXPECT_EQ(arguments->GetDuration("wait").value(), absl::Seconds(2));
  EXPECT_FALSE(arguments->WantsJson().value());
}

TEST(ArgumentsTest, AfterTwoDashesAllIsPositional) {
  const auto arguments = Parse({"--force", "--", "--count", "--"});
  ASSERT_TRUE(arguments.ok());
  EXPECT_THAT(arguments->positionals(), ElementsAre("--count", "--"));
}

TEST(ArgumentsTest, ValuesMayHoldEqualsSigns) {
  EXPECT_EQ(Parse({"a", "--count=x=y"})->Get("count"), "x=y");
}

TEST(ArgumentsTest, RefusesWhatItDoesNotKnow) {
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"a", "--colour=red"},
                                             {"a", "--count"},
                                             {"a", "--count=1", "--count=2"},
                                             {"a", "--force=yes"},
                                             {},
                                             {"a", "b", "c"},
                                             {"a",
                                              "--"
                                              "x"}}) {
    const auto parsed = Parse(arguments);
    EXPECT_FALSE(parsed.ok());
    EXPECT_TRUE(IsUsageError(parsed.status()));
  }
}

TEST(ArgumentsTest, RequiredOptionsAreRequired) {
  CommandSpec spec = Spec();
  spec.options.push_back({"shape", "SHAPE", "of what", "", true});
  const auto missing = Arguments::Parse(spec, std::vector<std::string>{"a"});
  EXPECT_TRUE(IsUsageError(missing.status()));
  EXPECT_EQ(missing.status().message(), "what is missing: --shape=SHAPE");
  EXPECT_TRUE(Arguments::Parse(spec, std::vector<std::string>{"a", "--shape=x"}).ok());
}

TEST(ArgumentsTest, RefusesValuesThatAreNotWhatTheyShouldBe) {
  const auto arguments = Parse({"a", "--count=-1", "--wait=soon", "--format=xml"});
  ASSERT_TRUE(arguments.ok());
  EXPECT_TRUE(IsUsageError(arguments->GetInt("count", 0).status()));
  EXPECT_TRUE(IsUsageError(arguments->GetDuration("wait").status()));
  EXPECT_TRUE(IsUsageError(arguments->WantsJson().status()));
  for (const char* text : {"", "1.5", "12a", "99999999999999999999"}) {
    EXPECT_FALSE(Parse({"a", "--count", text})->GetInt("count", 0).ok()) << text;
  }
  EXPECT_FALSE(Parse({"a", "--wait=0s"})->GetDuration("wait").ok());
}

TEST(ArgumentsTest, ServersErrorsAreNotUsageErrors) {
  EXPECT_FALSE(IsUsageError(absl::InvalidArgumentError("kept is 0")));
}

TEST(ArgumentsTest, EnvironmentNamesTheServer) {
  setenv("KVATTEND_SERVER", "example:1234", 1);
  EXPECT_EQ(ServerOption().default_value, "example:1234");
  unsetenv("KVATTEND_SERVER");
  EXPECT_EQ(ServerOption().default_value, "127.0.0.1:50051");
}

}  // namespace
}  // namespace kvattend::cli
