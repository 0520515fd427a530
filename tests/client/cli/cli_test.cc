#include "client/cli/cli.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "client/cli/json.h"

namespace kvattend::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Outcome {
  ExitCode code = ExitCode::kOk;
  std::string out;
  std::string err;
};

Outcome RunWith(const std::vector<std::string>& arguments) {
  std::ostringstream out, err;
  Io io = {out, err};
  const ExitCode code = RunCli(arguments, io);
  return {code, out.str(), err.str()};
}

const std::vector<std::string> kCommands = {"info",   "sessions", "compress",
                                            "replay", "metrics",  "plan"};

TEST(CliTest, HelpNamesEveryCommandAndExitCode) {
  for (const char* help : {"--help", "-h", "help"}) {
    const Outcome outcome = RunWith({help});
    EXPECT_EQ(outcome.code, ExitCode::kOk);
    for (const std::string& command : kCommands) EXPECT_THAT(outcome.out, HasSubstr(command));
    EXPECT_THAT(outcome.out, HasSubstr("  3  no server answered"));
  }
}

TEST(CliTest, EveryCommandHasHelpWithExamples) {
  for (const std::string& command : kCommands) {
    const Outcome outcome = RunWith({command, "--help"});
    EXPECT_EQ(outcome.code, ExitCode::kOk);
    EXPECT_THAT(outcome.out, HasSubstr("Usage: kvattend " + command));
    EXPECT_THAT(outcome.out, HasSubstr("Examples:\n  kvattend " + command));
    EXPECT_THAT(outcome.out, HasSubstr("--format=text|json"));
  }
}

TEST(CliTest, WrongCommandLinesAreUsageErrors) {
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {},
           {"fly"},
           {"info", "--colour=red"},
           {"info", "extra"},
           {"plan"},
           {"plan", "--model-shape=layers=1,kv_heads=1,head_dim=100", "--memory=1GiB"},
           {"plan", "--model-shape=layers=1,kv_heads=1,head_dim=64", "--memory=little"},
           {"plan", "--model-shape=layers=1,kv_heads=1,head_dim=64", "--memory=1"},
           {"plan", "--model-shape=layers=1,kv_heads=1,width=64", "--memory=1GiB"},
           {"plan", "--model-shape=layers=1,query_heads=3,kv_heads=2,head_dim=64", "--memory=1GiB"},
           {"plan", "--model-shape=layers=1,kv_heads=1,head_dim=64", "--memory=1GiB",
            "--recent-window=1048577"},
           {"plan", "--model-shape=layers=1,kv_heads=1,head_dim=64", "--memory=1GiB",
            "--tokens-per-session=1099511627776"},
           {"compress"},
           {"compress", "k.f16", "--shape=tokens=64"},
           {"replay", "--recent-window=-1"},
           {"metrics", "--format=xml"},
           {"sessions", "a", "b"}}) {
    const Outcome outcome = RunWith(arguments);
    EXPECT_EQ(outcome.code, ExitCode::kUsage) << (arguments.empty() ? "" : arguments.back());
    EXPECT_THAT(outcome.out, IsEmpty());
    EXPECT_FALSE(outcome.err.empty());
  }
}

TEST(CliTest, MissingFilesFail) {
  const Outcome replay = RunWith({"replay", "--data=/nonexistent"});
  EXPECT_EQ(replay.code, ExitCode::kFailed);
  EXPECT_THAT(replay.err, HasSubstr("/nonexistent/seed42_k.f16"));
  EXPECT_EQ(RunWith({"compress", "/nonexistent", "--shape=tokens=64,kv_heads=1,head_dim=64"}).code,
            ExitCode::kFailed);
}

TEST(CliTest, NoServerIsUnreachable) {
  // Port 1 (tcpmux) is not listened on.
  for (const char* command : {"info", "sessions"}) {
    const Outcome outcome = RunWith({command, "--server=127.0.0.1:1", "--timeout=1ms"});
    EXPECT_EQ(outcome.code, ExitCode::kUnreachable) << outcome.err;
  }
  EXPECT_EQ(RunWith({"metrics", "--metrics=127.0.0.1:1"}).code, ExitCode::kUnreachable);
}

TEST(CliTest, PlanAsTextAndAsJson) {
  const std::vector<std::string> arguments = {
      "plan", "--model-shape=layers=32,query_heads=32,kv_heads=8,head_dim=128", "--memory=80GiB"};
  const Outcome text = RunWith(arguments);
  EXPECT_EQ(text.code, ExitCode::kOk) << text.err;
  EXPECT_THAT(text.out, HasSubstr("balanced"));
  EXPECT_THAT(text.out, HasSubstr("655,360"));

  std::vector<std::string> with_json = arguments;
  with_json.push_back("--format=json");
  const Json json = Json::parse(RunWith(with_json).out);
  EXPECT_EQ(json["dense_fp16"]["tokens"], 655'360);
  EXPECT_EQ(json["codecs"][0]["codec"], "balanced");
  EXPECT_EQ(json["codecs"][0]["block_bytes"], 37'376);
  EXPECT_GT(json["codecs"][0]["times_dense"], 6.9);
}

}  // namespace
}  // namespace kvattend::cli
