// What a subcommand is, and what it works with.
#ifndef KVATTEND_CLIENT_CLI_COMMAND_H_
#define KVATTEND_CLIENT_CLI_COMMAND_H_

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/arguments.h"

namespace kvattend::cli {

// What the process returns; every --help says so.
enum class ExitCode {
  kOk = 0,
  // The command failed, or a result is not what it should be.
  kFailed = 1,
  // The command line is wrong.
  kUsage = 2,
  // No server answered.
  kUnreachable = 3,
};

// Where a command writes. Results go to `out`, everything else to `err`.
struct Io {
  std::ostream& out;
  std::ostream& err;
  // Whether `err` is a terminal: progress is shown only there.
  bool err_is_terminal = false;
};

struct Command {
  CommandSpec spec;
  // An error is printed by the caller and becomes an exit code (client/cli/cli.h).
  std::function<absl::StatusOr<ExitCode>(const Arguments& arguments, Io& io)> run;
};

// One function a subcommand, each in the file of its name.
Command InfoCommand();
Command SessionsCommand();
Command CompressCommand();
Command ReplayCommand();
Command MetricsCommand();
Command PlanCommand();

}  // namespace kvattend::cli

#endif  // KVATTEND_CLIENT_CLI_COMMAND_H_
