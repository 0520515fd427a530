// kvattend info: what the server is and can do.
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/command.h"
#include "client/cli/connect.h"
#include "client/cli/json.h"
#include "client/cli/table.h"
#include "client/cli/values.h"

namespace kvattend::cli {
namespace {

void PrintText(const v1::GetServerInfoResponse& info, std::ostream& out) {
  const v1::Limits& limits = info.limits();
  out << "version       " << info.version() << "\n"
      << "device        " << info.device().kind() << " (" << info.device().name() << ")\n"
      << "arena         " << BytesText(info.kv_used_bytes()) << " of "
      << BytesText(info.kv_capacity_bytes()) << " used\n"
      << "sessions      " << CountText(info.num_sessions()) << " of at most "
      << CountText(limits.max_sessions()) << "\n"
      << "head_dim      " << absl::StrJoin(info.head_dims(), ", ") << "\n"
      << "types         "
      << absl::StrJoin(info.dtypes(), ", ",
                       [](std::string* text, int dtype) {
                         absl::StrAppend(text, DataTypeText(static_cast<v1::DataType>(dtype)));
                       })
      << "\n"
      << "limits        message " << BytesText(limits.max_message_bytes()) << ", items a call "
      << CountText(limits.max_items_per_call()) << ", query tokens "
      << CountText(limits.max_query_tokens()) << ", layers " << CountText(limits.max_layers())
      << ", KV heads " << CountText(limits.max_kv_heads()) << ", top_k "
      << CountText(limits.max_top_k()) << ", recent window "
      << CountText(limits.max_recent_window()) << "\n";
  if (info.missing_capabilities_size() > 0) {
    out << "missing       " << absl::StrJoin(info.missing_capabilities(), ", ") << "\n";
  }
  out << "\nCodecs: kept of 128 channels at bits\n\n";
  Table table({{"codec", Table::Align::kLeft}, {"keys"}, {"values"}});
  for (const v1::Codec& codec : info.codecs()) {
    table.AddRow({codec.preset(), absl::StrCat(codec.keys().kept(), " at ", codec.keys().bits()),
                  absl::StrCat(codec.values().kept(), " at ", codec.values().bits())});
  }
  table.Print(out);
}

absl::StatusOr<ExitCode> Run(const Arguments& arguments, Io& io) {
  const auto json = arguments.WantsJson();
  if (!json.ok()) return json.status();
  const auto client = Connect(arguments);
  if (!client.ok()) return client.status();
  const auto info = (*client)->GetServerInfo();
  if (!info.ok()) return info.status();
  if (*json) {
    PrintJson(ToJson(*info), io.out);
  } else {
    PrintText(*info, io.out);
  }
  return ExitCode::kOk;
}

}  // namespace

Command InfoCommand() {
  CommandSpec spec;
  spec.name = "info";
  spec.summary = "what the server is and can do: version, device, memory, codecs, limits";
  spec.options = {ServerOption(), TimeoutOption(), FormatOption()};
  spec.description = "Asks the server for its version, device, memory, codecs and limits.";
  spec.examples = {"kvattend info", "kvattend info --server=10.0.0.7:50051 --format=json"};
  return {spec, Run};
}

}  // namespace kvattend::cli
