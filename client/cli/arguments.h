// A subcommand's options and positional arguments.
//
// Options are written --name=value or --name value; flags --name. "--" ends the options. Every
// subcommand has --help, and --format where it says so.
//
// Thread-safe after Parse.
#ifndef KVATTEND_CLIENT_CLI_ARGUMENTS_H_
#define KVATTEND_CLIENT_CLI_ARGUMENTS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace kvattend::cli {

struct OptionSpec {
  std::string name;
  // What stands for the value in the help, e.g. "FILE"; empty for a flag.
  std::string value_name;
  std::string help;
  // The value when the option is not given.
  std::string default_value;
  bool required = false;
};

struct CommandSpec {
  std::string name;
  // One line, for the list of commands.
  std::string summary;
  // What follows the command's name, e.g. "[NAME]".
  std::string positionals;
  int min_positionals = 0;
  int max_positionals = 0;
  std::vector<OptionSpec> options;
  // For --help: what the command does, at length.
  std::string description;
  std::vector<std::string> examples;
};

// An error of the command line, as opposed to one of the server: INVALID_ARGUMENT, and
// IsUsageError.
absl::Status UsageError(absl::string_view message);
bool IsUsageError(const absl::Status& status);

class Arguments {
 public:
  // A usage error for an unknown, repeated or missing option, a missing value, or a wrong number of
  // positional arguments.
  static absl::StatusOr<Arguments> Parse(const CommandSpec& spec,
                                         absl::Span<const std::string> arguments);

  const std::vector<std::string>& positionals() const { return positionals_; }
  // Whether it was given.
  bool Has(absl::string_view name) const;
  // The value, or the default.
  std::string Get(absl::string_view name) const;
  // A usage error unless it is a whole number of at least `minimum`.
  absl::StatusOr<int64_t> GetInt(absl::string_view name, int64_t minimum) const;
  // A usage error unless it is a positive duration, e.g. "2s".
  absl::StatusOr<absl::Duration> GetDuration(absl::string_view name) const;
  // A usage error unless it is one of `choices`.
  absl::StatusOr<std::string> GetChoice(absl::string_view name,
                                        const std::vector<std::string>& choices) const;
  // The common option --format: whether it is "json" rather than "text".
  absl::StatusOr<bool> WantsJson() const;

 private:
  std::map<std::string, std::string, std::less<>> given_;
  std::map<std::string, std::string, std::less<>> defaults_;
  std::vector<std::string> positionals_;
};

// Options that several commands share.
OptionSpec FormatOption();
// The default is $KVATTEND_SERVER, or 127.0.0.1:50051.
OptionSpec ServerOption();
OptionSpec TimeoutOption();

}  // namespace kvattend::cli

#endif  // KVATTEND_CLIENT_CLI_ARGUMENTS_H_
