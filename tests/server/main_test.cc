// The program kvattend-server: its exit codes, and how it starts and stops.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvattend {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

// A run of the server, its stdout and stderr in one pipe.
class Process {
 public:
  explicit Process(std::vector<std::string> arguments, std::vector<std::string> environment = {}) {
    int pipe_fds[2];
    EXPECT_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
    output_ = fdopen(pipe_fds[0], "r");
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipe_fds[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, pipe_fds[1], STDERR_FILENO);
    arguments.insert(arguments.begin(), KVATTEND_SERVER_PATH);
    EXPECT_EQ(posix_spawn(&pid_, KVATTEND_SERVER_PATH, &actions, nullptr,
                          Pointers(arguments).data(), Pointers(environment).data()),
              0);
    posix_spawn_file_actions_destroy(&actions);
    close(pipe_fds[1]);
  }
  ~Process() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      Wait();
    }
    fclose(output_);
  }

  // The next line; empty at the end.
  std::string ReadLine() {
    std::string line;
    for (int c = 0; (c = fgetc(output_)) != EOF && c != '\n';) line += static_cast<char>(c);
    return line;
  }
  std::string ReadAll() {
    std::string all;
    for (int c = 0; (c = fgetc(output_)) != EOF;) all += static_cast<char>(c);
    return all;
  }
  void Signal(int number) { kill(pid_, number); }
  // The exit code; -1 if a signal ended it.
  int Wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  static std::vector<char*> Pointers(std::vector<std::string>& strings) {
    std::vector<char*> pointers;
    for (std::string& string : strings) pointers.push_back(string.data());
    pointers.push_back(nullptr);
    return pointers;
  }

  pid_t pid_ = 0;
  FILE* output_ = nullptr;
};

const std::vector<std::string> kFreePorts = {"--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0",
                                             "--kv_memory=16MiB"};

std::vector<std::string> With(std::vector<std::string> arguments, const std::string& more) {
  arguments.push_back(more);
  return arguments;
}

TEST(MainTest, HelpAndVersionEndWell) {
  Process help({"--help"});
  const std::string text = help.ReadAll();
  EXPECT_EQ(help.Wait(), 0);
  EXPECT_THAT(text, HasSubstr("--kv_memory (default \"1GiB\"; or KVATTEND_KV_MEMORY)"));
  EXPECT_THAT(text, HasSubstr("example: "));
  Process version({"--version"});
  EXPECT_THAT(version.ReadAll(), StartsWith("kvattend-server "));
  EXPECT_EQ(version.Wait(), 0);
}

TEST(MainTest, BadFlagsEndWith2AndSayWhy) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"--kv_memory=lots", "--kv_memory: expected an amount"},
      {"--listen=0.0.0.0:0", "--insecure"},
      {"--log_level=loud", "--log_level: expected debug"},
      {"--nosuchflag", "--nosuchflag: no such flag"},
      {"-threads=1", "-threads=1: flags begin with --"},
      {"--insecure=maybe", "Illegal value 'maybe'"},
      {"stray", "stray: flags begin with --"}};
  for (const auto& [argument, message] : cases) {
    Process process({argument});
    EXPECT_THAT(process.ReadAll(), HasSubstr(message));
    EXPECT_EQ(process.Wait(), 2) << argument;
  }
}

TEST(MainTest, ADeviceThatIsMissingEndsWith1) {
  // Hides a GPU that is there.
  Process process(With(kFreePorts, "--device=cuda"), {"CUDA_VISIBLE_DEVICES="});
  // "this build has no CUDA backend", or "no CUDA device".
  EXPECT_THAT(process.ReadAll(), HasSubstr("no CUDA "));
  EXPECT_EQ(process.Wait(), 1);
}

TEST(MainTest, FlagsWinOverTheEnvironment) {
  Process from_environment({}, {"KVATTEND_THREADS=many"});
  EXPECT_THAT(from_environment.ReadAll(), HasSubstr("--threads: expected"));
  EXPECT_EQ(from_environment.Wait(), 2);
  Process overridden(With(kFreePorts, "--threads=1"), {"KVATTEND_THREADS=many"});
  EXPECT_THAT(overridden.ReadLine(), HasSubstr(" info ready "));
  overridden.Signal(SIGTERM);
  EXPECT_EQ(overridden.Wait(), 0);
}

TEST(MainTest, TellsItsPortsAndStopsOnSignals) {
  for (const int signal_number : {SIGTERM, SIGINT}) {
    const std::string path = absl::StrCat(::testing::TempDir(), "ports.", getpid());
    Process process(With(With(kFreePorts, "--port_file=" + path), "--log_format=json"));
    EXPECT_THAT(process.ReadLine(), HasSubstr("\"message\":\"ready\""));
    process.Signal(signal_number);
    const std::string rest = process.ReadAll();
    EXPECT_EQ(process.Wait(), 0);
    EXPECT_THAT(rest, HasSubstr("\"message\":\"stopped\""));
    std::ifstream file(path);
    const std::string ports((std::istreambuf_iterator<char>(file)),
                            std::istreambuf_iterator<char>());
    EXPECT_THAT(ports, MatchesRegex("grpc=[0-9]+\nmetrics=[0-9]+\n"));
    std::remove(path.c_str());
  }
}

}  // namespace
}  // namespace kvattend
