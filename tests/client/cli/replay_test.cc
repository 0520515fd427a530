// The main job on real input: `kvattend replay` against a running server.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>

#include "client/cli/files.h"
#include "client/cli/json.h"
#include "client/cli/replay_reference.h"
#include "tests/client/cli/server_fixture.h"

namespace kvattend::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

const std::string kGolden = std::string(KVATTEND_TEST_DATA_DIR) + "/golden";

// A copy of the golden folder that a test may damage.
class GoldenCopy {
 public:
  GoldenCopy() : path_(::testing::TempDir() + "/kvattend_golden_copy") {
    std::filesystem::remove_all(path_);
    std::filesystem::copy(kGolden, path_);
    for (const auto& file : std::filesystem::directory_iterator(path_)) {
      std::filesystem::permissions(file, std::filesystem::perms::owner_all);
    }
  }
  ~GoldenCopy() { std::filesystem::remove_all(path_); }

  const std::string& path() const { return path_; }

  // Rewrites a file.
  void Change(const std::string& name, const std::function<void(std::string*)>& change) const {
    std::string data = ReadFile(path_ + "/" + name).value();
    change(&data);
    ASSERT_TRUE(WriteFile(path_ + "/" + name, data).ok());
  }

 private:
  const std::string path_;
};

class ReplayTest : public ServerFixture {
 protected:
  CliOutcome Replay(const std::vector<std::string>& options, const std::string& data = kGolden) {
    std::vector<std::string> arguments = {"replay", "--data=" + data};
    arguments.insert(arguments.end(), options.begin(), options.end());
    return Run(arguments);
  }
};

TEST_F(ReplayTest, EveryFigureComesOut) {
  const CliOutcome outcome = Replay({});
  EXPECT_EQ(outcome.code, ExitCode::kOk) << outcome.err << outcome.out;
  EXPECT_EQ(outcome.err, "");
  for (const char* figure : {"21.09 %", "44.60 %", "13.78 %", "-4466983682215599831",
                             "92,312 values", "7,165 words", "All figures are as expected."}) {
    EXPECT_THAT(outcome.out, HasSubstr(figure));
  }
  EXPECT_THAT(outcome.out, Not(HasSubstr("DIFFERS")));
  EXPECT_TRUE(Connect()->ListSessions().value().empty());
}

TEST_F(ReplayTest, JsonHasEverything) {
  const CliOutcome outcome = Replay({"--format=json"});
  EXPECT_EQ(outcome.code, ExitCode::kOk) << outcome.err;
  const Json json = Json::parse(outcome.out);
  EXPECT_EQ(json["ok"], true);
  // 25 figures of figures.json and four that they imply.
  EXPECT_THAT(json["reference"]["figures"], SizeIs(29));
  EXPECT_EQ(json["reference"]["first_bitmap"].get<int64_t>(), -4466983682215599831);
  ASSERT_THAT(json["sessions"], SizeIs(13));
  for (const Json& row : json["sessions"]) {
    EXPECT_EQ(row["ok"], true);
    EXPECT_EQ(row["dense_bytes"], 1'048'576);
    EXPECT_GT(row["append_p50_seconds"], 0.0);
    EXPECT_GT(row["attend_p50_seconds"], 0.0);
    if (row["codec"]["preset"] == "balanced") {
      // Four blocks of 37,376 bytes.
      EXPECT_EQ(row["stored_bytes"], 149'504);
    }
    if (row["codec"]["preset"] == "fp16") {
      EXPECT_LT(row["score_error"], 1e-6);
      EXPECT_LT(row["output_error"], 1e-6);
    }
    if (row["codec"]["preset"] == "sparse70") {
      // The reference keys have 38 channels that are not zero: nothing is lost.
      EXPECT_LT(row["score_error"], 1e-6);
    }
  }
}

TEST_F(ReplayTest, WithARecentWindow) {
  for (const char* window : {"--recent-window=16", "--recent-window=100", "--recent-window=1000"}) {
    const CliOutcome outcome = Replay({window, "--format=json"});
    EXPECT_EQ(outcome.code, ExitCode::kOk) << outcome.err;
    const Json json = Json::parse(outcome.out);
    for (const Json& row : json["sessions"]) {
      EXPECT_EQ(row["ok"], true) << window << row;
      // All exact at 1,000: sixteen pages.
      if (json["recent_window"] == 1000) {
        EXPECT_EQ(row["stored_bytes"], 1'048'576);
      }
    }
  }
}

TEST_F(ReplayTest, KeptSessionsStay) {
  StartServer({});  // whose counters begin at zero
  EXPECT_EQ(Replay({"--keep-sessions"}).code, ExitCode::kOk);
  const auto client = Connect();
  const auto sessions = client->ListSessions().value();
  ASSERT_EQ(sessions.size(), 26u);
  EXPECT_EQ(sessions.front().length(), 256);

  // What they save shows in the metrics, and they show in the list.
  const std::string metrics = absl::StrCat("--metrics=127.0.0.1:", server().metrics_port());
  const CliOutcome text = RunCommandLine({"metrics", metrics});
  EXPECT_EQ(text.code, ExitCode::kOk) << text.err;
  EXPECT_THAT(text.out, HasSubstr("dense fp16 would take 26.00 MiB"));
  EXPECT_THAT(text.out, HasSubstr("kvattend.v1.AttentionService/Append OK"));
  const Json json = Json::parse(RunCommandLine({"metrics", metrics, "--format=json"}).out);
  EXPECT_EQ(json["sessions"], 26);
  EXPECT_EQ(json["kv_dense_bytes"], int64_t{26} << 20);
  int64_t stored_bytes = 0;
  for (const v1::Session& session : sessions) stored_bytes += session.stored_bytes();
  EXPECT_EQ(json["kv_bytes"], stored_bytes);
  EXPECT_EQ(json["tokens_appended"], 26 * 256);
  EXPECT_FALSE(json["kvattend_kernel_seconds"].empty());
  EXPECT_THAT(RunCommandLine({"metrics", metrics, "--all"}).out, HasSubstr("# TYPE kvattend_"));

  EXPECT_THAT(Run({"sessions"}).out, HasSubstr("26 sessions"));
  EXPECT_THAT(Json::parse(Run({"sessions", "--format=json"}).out)["sessions"], SizeIs(26));
  EXPECT_THAT(Run({"sessions", sessions.front().name()}).out, HasSubstr("256 (by layer: 256)"));
}

TEST_F(ReplayTest, ChangedFigureFails) {
  const GoldenCopy copy;
  copy.Change("figures.json", [](std::string* text) {
    const size_t found = text->find("7165");
    ASSERT_NE(found, std::string::npos);
    text->replace(found, 4, "7166");
  });
  const CliOutcome outcome = Replay({}, copy.path());
  EXPECT_EQ(outcome.code, ExitCode::kFailed);
  EXPECT_THAT(outcome.out, HasSubstr("DIFFERS"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("All figures are as expected.")));
  EXPECT_THAT(outcome.err, HasSubstr("1 figures and 0 of 13 codecs differ"));
  EXPECT_TRUE(Connect()->ListSessions().value().empty());
}

TEST_F(ReplayTest, ChangedTensorFails) {
  const GoldenCopy copy;
  copy.Change("seed42_k.f16", [](std::string* data) {
    // The last channel of the first token: another value in its place, or one where there was none.
    (*data)[254] ^= 0x10;
    (*data)[255] ^= 0x10;
  });
  const CliOutcome outcome = Replay({}, copy.path());
  EXPECT_EQ(outcome.code, ExitCode::kFailed);
  EXPECT_THAT(outcome.out, HasSubstr("DIFFERS"));
}

TEST_F(ReplayTest, EveryFigureIsReallyCompared) {
  ReferenceInput input = ReadReferenceInput(kGolden).value();
  const Json figures = input.figures;
  const auto client = Connect();
  const client::CodecClient codec(*client);
  const auto count_bad = [&] {
    const auto replay = ReplayReference(codec, input);
    EXPECT_TRUE(replay.ok()) << replay.status();
    return std::count_if(replay->figures.begin(), replay->figures.end(),
                         [](const Figure& figure) { return !figure.ok; });
  };
  ASSERT_EQ(count_bad(), 0);
  for (const auto& [group, members] : figures.items()) {
    for (const auto& [name, figure] : members.items()) {
      input.figures = figures;
      Json& changed = input.figures[group][name];
      // The last number of a list, or the number: another whole number, or one per cent more.
      Json& number = changed.is_array() ? changed.back() : changed;
      if (number.is_number_integer()) {
        number = number.get<int64_t>() + 1;
      } else {
        number = number.get<double>() * 1.01;
      }
      EXPECT_GE(count_bad(), 1) << group << " " << name;
      input.figures = figures;
      input.figures[group].erase(name);
      EXPECT_GE(count_bad(), 1) << group << " without " << name;
    }
  }
}

TEST_F(ReplayTest, ServerThatStopsIsUnreachable) {
  StartServer({});
  const std::string stopped = target();
  StopServer();
  const CliOutcome outcome =
      RunCommandLine({"replay", "--data=" + kGolden, "--server=" + stopped, "--timeout=200ms"});
  EXPECT_EQ(outcome.code, ExitCode::kUnreachable);
  EXPECT_THAT(outcome.err, HasSubstr("no server at " + stopped));
}

}  // namespace
}  // namespace kvattend::cli
