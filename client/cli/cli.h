// The command line `kvattend`: finds the subcommand, runs it, and turns what happens into an exit
// code.
#ifndef KVATTEND_CLIENT_CLI_CLI_H_
#define KVATTEND_CLIENT_CLI_CLI_H_

#include <string>

#include "absl/types/span.h"
#include "client/cli/command.h"

namespace kvattend::cli {

// `arguments` without the program's name. Errors go to io.err: usage errors are kUsage, UNAVAILABLE
// is kUnreachable, all others kFailed.
ExitCode RunCli(absl::Span<const std::string> arguments, Io& io);

}  // namespace kvattend::cli

#endif  // KVATTEND_CLIENT_CLI_CLI_H_
