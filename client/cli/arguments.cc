#include "client/cli/arguments.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace kvattend::cli {
namespace {

constexpr char kUsagePayload[] = "kvattend/usage";

const OptionSpec* FindOption(const CommandSpec& spec, absl::string_view name) {
  const auto found = std::find_if(spec.options.begin(), spec.options.end(),
                                  [&](const OptionSpec& option) { return option.name == name; });
  return found == spec.options.end() ? nullptr : &*found;
}

}  // namespace

absl::Status UsageError(absl::string_view message) {
  absl::Status status = absl::InvalidArgumentError(message);
  status.SetPayload(kUsagePayload, absl::Cord());
  return status;
}

bool IsUsageError(const absl::Status& status) {
  return status.GetPayload(kUsagePayload).has_value();
}

absl::StatusOr<Arguments> Arguments::Parse(const CommandSpec& spec,
                                           absl::Span<const std::string> arguments) {
  Arguments result;
  for (const OptionSpec& option : spec.options) {
    result.defaults_[option.name] = option.default_value;
  }
  bool options_ended = false;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--" && !options_ended) {
      options_ended = true;
      continue;
    }
    if (options_ended || !absl::StartsWith(argument, "--")) {
      result.positionals_.push_back(argument);
      continue;
    }
    const size_t equals = argument.find('=');
    const std::string name = argument.substr(2, equals - std::min<size_t>(equals, 2));
    const OptionSpec* const option = FindOption(spec, name);
    if (option == nullptr) return UsageError(absl::StrCat("there is no option --", name));
    std::string value;
    if (equals != std::string::npos) {
      if (option->value_name.empty())
        return UsageError(absl::StrCat("--", name, " takes no value"));
      value = argument.substr(equals + 1);
    } else if (!option->value_name.empty()) {
      if (++i == arguments.size()) return UsageError(absl::StrCat("--", name, " wants a value"));
      value = arguments[i];
    }
    if (!result.given_.emplace(name, std::move(value)).second) {
      return UsageError(absl::StrCat("--", name, " is given twice"));
    }
  }
  for (const OptionSpec& option : spec.options) {
    if (option.required && !result.Has(option.name)) {
      return UsageError(absl::StrCat("what is missing: --", option.name, "=", option.value_name));
    }
  }
  const int count = static_cast<int>(result.positionals_.size());
  if (count < spec.min_positionals) {
    return UsageError(absl::StrCat("what is missing: ", spec.positionals));
  }
  if (count > spec.max_positionals) {
    return UsageError(absl::StrCat("too many arguments: ", result.positionals_.back()));
  }
  return result;
}

bool Arguments::Has(absl::string_view name) const { return given_.find(name) != given_.end(); }

std::string Arguments::Get(absl::string_view name) const {
  if (const auto given = given_.find(name); given != given_.end()) return given->second;
  const auto fallback = defaults_.find(name);
  return fallback == defaults_.end() ? "" : fallback->second;
}

absl::StatusOr<int64_t> Arguments::GetInt(absl::string_view name, int64_t minimum) const {
  int64_t value = 0;
  if (!absl::SimpleAtoi(Get(name), &value) || value < minimum) {
    return UsageError(absl::StrCat("--", name, " is a whole number of at least ", minimum,
                                   "; found \"", Get(name), "\""));
  }
  return value;
}

absl::StatusOr<absl::Duration> Arguments::GetDuration(absl::string_view name) const {
  absl::Duration value;
  if (!absl::ParseDuration(Get(name), &value) || value <= absl::ZeroDuration()) {
    return UsageError(absl::StrCat("--", name, " is a duration such as 500ms, 2s or 1m; found \"",
                                   Get(name), "\""));
  }
  return value;
}

absl::StatusOr<std::string> Arguments::GetChoice(absl::string_view name,
                                                 const std::vector<std::string>& choices) const {
  std::string value = Get(name);
  if (std::find(choices.begin(), choices.end(), value) == choices.end()) {
    return UsageError(absl::StrCat("--", name, " is one of ", absl::StrJoin(choices, ", "),
                                   "; found \"", value, "\""));
  }
  return value;
}

absl::StatusOr<bool> Arguments::WantsJson() const {
  auto format = GetChoice("format", {"text", "json"});
  if (!format.ok()) return format.status();
  return *format == "json";
}

OptionSpec FormatOption() { return {"format", "text|json", "how the result is written", "text"}; }

OptionSpec ServerOption() {
  const char* const server = std::getenv("KVATTEND_SERVER");
  return {"server", "HOST:PORT", "the server's gRPC address; $KVATTEND_SERVER sets the default",
          server == nullptr ? "127.0.0.1:50051" : server};
}

OptionSpec TimeoutOption() {
  return {"timeout", "DURATION", "how long one call may take, retries included", "60s"};
}

}  // namespace kvattend::cli
