// kvattend-server: reads flags and the environment, serves until SIGTERM or SIGINT, drains.
//
// Exit codes: 0 after a clean stop, 1 where the server could not start, 2 for bad flags, 3 where
// the device failed.
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/reflection.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "google/protobuf/stubs/logging.h"
#include "grpc/support/log.h"
#include "kernels/base/status_macros.h"
#include "server/options.h"
#include "server/server.h"

// Texts, so that ParseServerOptions tells what is wrong with them.
ABSL_FLAG(std::string, listen, "127.0.0.1:50051",
          "Where to serve gRPC: host:port with a numeric host; port 0 takes a free one.");
ABSL_FLAG(std::string, metrics_listen, "127.0.0.1:9464",
          "Where Prometheus scrapes GET /metrics; port 0 takes a free one.");
ABSL_FLAG(bool, insecure, false, "Allow --listen to be reached by others, without TLS.");
ABSL_FLAG(std::string, device, "auto", "auto (cuda where there is a GPU), cpu or cuda.");
ABSL_FLAG(std::string, kv_memory, "1GiB",
          "Memory for KV caches, e.g. 512M (10^6), 4GiB (2^30) or 50% of the device's.");
ABSL_FLAG(std::string, threads, "0", "Threads of the CPU backend; 0: one for each core.");
ABSL_FLAG(std::string, max_message_mb, "64", "Largest request and answer, in MiB; up to 2047.");
ABSL_FLAG(std::string, max_queue_depth, "1024",
          "Operations that may wait; more are refused with UNAVAILABLE QUEUE_FULL.");
ABSL_FLAG(std::string, max_sessions, "100000", "Sessions that may exist.");
ABSL_FLAG(std::string, log_level, "info",
          "debug (every call), info (control plane and errors), warning, error or off.");
ABSL_FLAG(std::string, log_format, "text", "text, or json: a JSON object a line.");
ABSL_FLAG(std::string, port_file, "",
          "File to write grpc=PORT and metrics=PORT lines to once the server is ready.");

namespace kvattend {
namespace {

constexpr int kCannotStart = 1;
constexpr int kBadFlags = 2;
constexpr int kDeviceFailed = 3;

absl::CommandLineFlag& FindFlag(const std::string& name) {
  return *absl::FindCommandLineFlag(name);
}

void PrintHelp() {
  std::printf(
      "kvattend-server %s: holds compressed KV caches and answers attention over them\n\n"
      "usage: kvattend-server [--FLAG=VALUE]...\n\n",
      ServerVersion());
  for (const std::string& name : ServerOptionNames()) {
    const absl::CommandLineFlag& flag = FindFlag(name);
    std::printf("  --%s (default \"%s\"; or %s)\n      %s\n", name.c_str(),
                flag.DefaultValue().c_str(), EnvironmentName(name).c_str(), flag.Help().c_str());
  }
  std::printf("  --version\n      Print the version.\n  --help\n      Print this.\n\n");
  std::printf("example: kvattend-server --listen=127.0.0.1:50051 --kv_memory=4GiB\n");
}

// What is wrong with an argument that begins with "-"; abseil would end the process with status 1.
absl::Status CheckFlag(absl::string_view argument) {
  absl::string_view name = argument;
  if (!absl::ConsumePrefix(&name, "--")) {
    return absl::InvalidArgumentError(absl::StrCat(argument, ": flags begin with --; see --help"));
  }
  const size_t equals = name.find('=');
  if (equals == absl::string_view::npos) {
    if (absl::FindCommandLineFlag(name) != nullptr) return absl::OkStatus();
    if (absl::ConsumePrefix(&name, "no") && absl::FindCommandLineFlag(name) != nullptr) {
      return absl::OkStatus();
    }
  } else if (absl::CommandLineFlag* flag = absl::FindCommandLineFlag(name.substr(0, equals));
             flag != nullptr) {
    std::string error;
    if (flag->ParseFrom(name.substr(equals + 1), &error)) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(argument, ": ", error));
  }
  return absl::InvalidArgumentError(absl::StrCat(argument, ": no such flag; see --help"));
}

// The environment's values, then the flags' over them.
absl::StatusOr<ServerOptions> ReadOptions(int argc, char** argv) {
  for (const auto& [name, value] : OptionsFromEnvironment(getenv)) {
    std::string error;
    if (!FindFlag(name).ParseFrom(value, &error)) {
      return absl::InvalidArgumentError(absl::StrCat(EnvironmentName(name), ": ", error));
    }
  }
  for (int i = 1; i < argc; ++i) {
    if (argv[i][0] == '-') KVATTEND_RETURN_IF_ERROR(CheckFlag(argv[i]));
  }
  const std::vector<char*> arguments = absl::ParseCommandLine(argc, argv);
  if (arguments.size() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(arguments[1], ": flags begin with --; see --help"));
  }
  OptionValues values;
  for (const std::string& name : ServerOptionNames()) values[name] = FindFlag(name).CurrentValue();
  return ParseServerOptions(values);
}

// For the log functions of gRPC and protobuf, which take no context.
Logger* g_logger = nullptr;

// Blocks the signals that stop the server in this thread and all that it starts; a thread waits for
// them, so no handler runs.
sigset_t BlockStopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return signals;
}

int Fail(const absl::Status& status, int exit_code) {
  std::fprintf(stderr, "kvattend-server: %s\n", std::string(status.message()).c_str());
  return exit_code;
}

int Run(int argc, char** argv) {
  const sigset_t signals = BlockStopSignals();
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--help") == 0) {
      PrintHelp();
      return 0;
    }
    if (std::strcmp(argv[i], "--version") == 0) {
      std::printf("kvattend-server %s (%s)\n", ServerVersion(), ServerCommit());
      return 0;
    }
  }
  const absl::StatusOr<ServerOptions> options = ReadOptions(argc, argv);
  if (!options.ok()) return Fail(options.status(), kBadFlags);

  // Never destroyed: they may log until the process ends.
  g_logger = new Logger(options->log_format, options->log_level);
  google::protobuf::SetLogHandler(
      [](google::protobuf::LogLevel, const char*, int, const std::string& message) {
        g_logger->Log(spdlog::level::debug, "protobuf", {{"detail", message}});
      });
  gpr_set_log_function([](gpr_log_func_args* args) {
    g_logger->Log(
        args->severity == GPR_LOG_SEVERITY_ERROR ? spdlog::level::warn : spdlog::level::debug,
        "grpc", {{"detail", args->message}});
  });

  std::atomic<bool> device_failed = false;
  absl::StatusOr<std::unique_ptr<Server>> server =
      Server::Create(*options, g_logger, [&device_failed] {
        device_failed = true;
        // Stops the server as if asked to, so that whoever supervises it starts another.
        kill(getpid(), SIGTERM);
      });
  if (!server.ok()) return Fail(server.status(), kCannotStart);
  if (!options->port_file.empty()) {
    const absl::Status status =
        WritePortFile(options->port_file, (*server)->grpc_port(), (*server)->metrics_port());
    if (!status.ok()) return Fail(status, kCannotStart);
  }

  int signal_number = 0;
  sigwait(&signals, &signal_number);
  g_logger->Info("signal", {{"name", signal_number == SIGTERM ? "SIGTERM" : "SIGINT"}});
  // Whoever asks twice does not want to wait.
  std::thread([signals] {
    int second_signal = 0;
    sigwait(&signals, &second_signal);
    _exit(kCannotStart);
  }).detach();
  (*server)->Shutdown();
  return device_failed ? kDeviceFailed : 0;
}

}  // namespace
}  // namespace kvattend

int main(int argc, char** argv) { return kvattend::Run(argc, argv); }
