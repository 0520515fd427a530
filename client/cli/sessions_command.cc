// kvattend sessions: the server's sessions, or one of them.
#include <vector>

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

// How many times less memory than dense fp16; "-" for an empty session.
std::string RatioText(const v1::Session& session) {
  if (session.stored_bytes() == 0) return "-";
  return absl::StrFormat("%.2fx", static_cast<double>(session.dense_bytes()) /
                                      static_cast<double>(session.stored_bytes()));
}

std::string ShapeText(const v1::ModelShape& shape) {
  return absl::StrCat(shape.num_layers(), " x ", shape.num_query_heads(), "/", shape.num_kv_heads(),
                      " x ", shape.head_dim());
}

void PrintList(const std::vector<v1::Session>& sessions, std::ostream& out) {
  Table table({{"name", Table::Align::kLeft},
               {"layers x heads x dim"},
               {"codec", Table::Align::kLeft},
               {"tokens"},
               {"stored"},
               {"dense fp16"},
               {"saved"}});
  for (const v1::Session& session : sessions) {
    table.AddRow({session.name(), ShapeText(session.model_shape()), session.codec().preset(),
                  CountText(session.length()), BytesText(session.stored_bytes()),
                  BytesText(session.dense_bytes()), RatioText(session)});
  }
  table.Print(out);
  out << "\n" << CountText(static_cast<int64_t>(sessions.size())) << " sessions\n";
}

void PrintOne(const v1::Session& session, std::ostream& out) {
  const v1::ModelShape& shape = session.model_shape();
  out << "name           " << session.name() << "\n"
      << "model          " << shape.num_layers() << " layers, " << shape.num_query_heads()
      << " query heads, " << shape.num_kv_heads() << " KV heads, head_dim " << shape.head_dim()
      << "\n"
      << "codec          " << session.codec().preset() << " (" << CodecText(session.codec())
      << ", kept@bits of keys / values)\n"
      << "recent window  " << CountText(session.recent_window()) << " tokens\n"
      << "revision       " << session.revision() << "\n"
      << "tokens         " << CountText(session.length())
      << " (by layer: " << absl::StrJoin(session.layer_lengths(), " ") << ")\n"
      << "memory         " << BytesText(session.stored_bytes()) << ", dense fp16 would take "
      << BytesText(session.dense_bytes()) << " (" << RatioText(session) << ")\n"
      << "shard          " << session.shard() << "\n";
}

absl::StatusOr<ExitCode> Run(const Arguments& arguments, Io& io) {
  const auto json = arguments.WantsJson();
  if (!json.ok()) return json.status();
  const auto client = Connect(arguments);
  if (!client.ok()) return client.status();
  if (!arguments.positionals().empty()) {
    const auto session = (*client)->OpenSession(arguments.positionals().front());
    if (!session.ok()) return session.status();
    if (*json) {
      PrintJson(ToJson(session->info()), io.out);
    } else {
      PrintOne(session->info(), io.out);
    }
    return ExitCode::kOk;
  }
  const auto sessions = (*client)->ListSessions();
  if (!sessions.ok()) return sessions.status();
  if (*json) {
    Json list = Json::array();
    for (const v1::Session& session : *sessions) list.push_back(ToJson(session));
    PrintJson({{"sessions", list}}, io.out);
  } else {
    PrintList(*sessions, io.out);
  }
  return ExitCode::kOk;
}

}  // namespace

Command SessionsCommand() {
  CommandSpec spec;
  spec.name = "sessions";
  spec.summary = "the server's sessions, or one of them";
  spec.positionals = "[NAME]";
  spec.max_positionals = 1;
  spec.options = {ServerOption(), TimeoutOption(), FormatOption()};
  spec.description =
      "Lists the sessions with their shape, codec, tokens and memory; with NAME (sessions/{id} or "
      "the id)\nshows that one.";
  spec.examples = {"kvattend sessions", "kvattend sessions chat-17",
                   "kvattend sessions --format=json"};
  return {spec, Run};
}

}  // namespace kvattend::cli
