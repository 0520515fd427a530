#include "client/cli/cli.h"

#include <algorithm>
#include <iomanip>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cpp/errors.h"

namespace kvattend::cli {
namespace {

constexpr char kExitCodes[] =
    "Exit codes:\n"
    "  0  done\n"
    "  1  failed: the server refused, a file cannot be read, or a figure differs\n"
    "  2  the command line is wrong\n"
    "  3  no server answered\n";

std::vector<Command> AllCommands() {
  return {InfoCommand(),   SessionsCommand(), CompressCommand(),
          ReplayCommand(), MetricsCommand(),  PlanCommand()};
}

void PrintHelp(const std::vector<Command>& commands, std::ostream& out) {
  out << "kvattend: compressed KV caches and attention over them, from the command line\n\n"
         "Usage: kvattend COMMAND [OPTIONS]\n\nCommands:\n";
  for (const Command& command : commands) {
    out << "  " << std::left << std::setw(10) << command.spec.name << command.spec.summary << "\n";
  }
  out << "\nkvattend COMMAND --help says more about each, with examples;\nkvattend --version says "
         "which version this is.\n\n"
      << kExitCodes;
}

void PrintCommandHelp(const CommandSpec& spec, std::ostream& out) {
  out << "Usage: kvattend " << spec.name << (spec.positionals.empty() ? "" : " ")
      << spec.positionals << " [OPTIONS]\n\n"
      << spec.description << "\n\nOptions:\n";
  for (const OptionSpec& option : spec.options) {
    std::string head = absl::StrCat("--", option.name);
    if (!option.value_name.empty()) absl::StrAppend(&head, "=", option.value_name);
    out << "  " << std::left << std::setw(28) << head << " " << option.help;
    if (!option.default_value.empty()) out << " (default: " << option.default_value << ")";
    out << "\n";
  }
  out << "\nExamples:\n";
  for (const std::string& example : spec.examples) out << "  " << example << "\n";
  out << "\n" << kExitCodes;
}

ExitCode Report(const absl::Status& status, const std::string& command, Io& io) {
  if (IsUsageError(status)) {
    io.err << "kvattend " << command << ": " << status.message() << "\n"
           << "See kvattend " << command << " --help.\n";
    return ExitCode::kUsage;
  }
  io.err << "kvattend " << command << ": " << client::DescribeError(status) << "\n";
  for (const auto& violation : client::GetErrorDetails(status).field_violations) {
    if (violation.description == status.message()) continue;  // said above
    io.err << "  " << violation.field << ": " << violation.description << "\n";
  }
  return absl::IsUnavailable(status) ? ExitCode::kUnreachable : ExitCode::kFailed;
}

}  // namespace

ExitCode RunCli(absl::Span<const std::string> arguments, Io& io) {
  const std::vector<Command> commands = AllCommands();
  const std::string name = arguments.empty() ? "" : arguments.front();
  if (name == "--help" || name == "-h" || name == "help") {
    PrintHelp(commands, io.out);
    return ExitCode::kOk;
  }
  if (name == "--version") {
    io.out << "kvattend " << KVATTEND_VERSION << "\n";
    return ExitCode::kOk;
  }
  const auto command = std::find_if(commands.begin(), commands.end(),
                                    [&](const Command& c) { return c.spec.name == name; });
  if (command == commands.end()) {
    if (!name.empty()) io.err << "kvattend: there is no command " << name << "\n\n";
    PrintHelp(commands, io.err);
    return ExitCode::kUsage;
  }
  const absl::Span<const std::string> rest = arguments.subspan(1);
  if (std::find(rest.begin(), rest.end(), "--help") != rest.end()) {
    PrintCommandHelp(command->spec, io.out);
    return ExitCode::kOk;
  }
  const auto parsed = Arguments::Parse(command->spec, rest);
  if (!parsed.ok()) return Report(parsed.status(), name, io);
  const auto code = command->run(*parsed, io);
  return code.ok() ? *code : Report(code.status(), name, io);
}

}  // namespace kvattend::cli
