// kvattend replay: the server on the reference input, checked and measured.
#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/command.h"
#include "client/cli/connect.h"
#include "client/cli/json.h"
#include "client/cli/progress.h"
#include "client/cli/replay_reference.h"
#include "client/cli/replay_sessions.h"
#include "client/cli/table.h"
#include "client/cli/values.h"

namespace kvattend::cli {
namespace {

// Enough of a list for a reader to compare; --format=json has all of it.
std::string Shortened(const std::string& text) {
  constexpr size_t kWidth = 34;
  return text.size() <= kWidth ? text : absl::StrCat(text.substr(0, kWidth - 4), " ...");
}

const char* Verdict(bool ok) { return ok ? "ok" : "DIFFERS"; }

constexpr char kSessionsLegend[] = R"(
bytes: what the session takes. bits: per element. err: max|a - b| / max|b| within a head, the largest.
score and output err: against exact attention in float64 over the reference cache; kernel err: output
against the same over the decompressed cache, at most 1e-3. append: median call of one token. attend:
of one query token. chunked, batched: the same to the bit as token by token, and as alone.
Seven tenths of this cache are zeros: easy for pruning to 38 channels, hard for codecs of 2, 4 and 8
bits that keep more, since these have no level for zero.

)";

void PrintReference(const ReferenceReplay& replay, std::ostream& out) {
  out << "Reference formats: " << replay.figures.size() << " figures\n\n";
  Table table({{"format", Table::Align::kLeft},
               {"figure", Table::Align::kLeft},
               {"expected"},
               {"found"},
               {"", Table::Align::kLeft}});
  for (const Figure& figure : replay.figures) {
    // A figure that differs is shown whole, for the difference may be anywhere in it.
    const auto shown = [&](const std::string& text) { return figure.ok ? Shortened(text) : text; };
    table.AddRow({figure.group, figure.name, shown(figure.expected), shown(figure.found),
                  Verdict(figure.ok)});
  }
  table.Print(out);
  out << absl::StrFormat(
             "\nOf fp16's bytes: %.2f %% with 2-bit tiles, %.2f %% with fp16 tiles, %.2f %% with "
             "2-bit heads.\n",
             100 * replay.int2_tile_share, 100 * replay.fp16_share, 100 * replay.int2_head_share)
      << "First bitmap " << replay.first_bitmap << ", " << CountText(replay.padded_values)
      << " values, " << CountText(replay.code_words) << " words of codes.\n\n";
}

void PrintSessions(const std::vector<CodecReplay>& replays, int64_t recent_window,
                   std::ostream& out) {
  constexpr AttentionShape kShape = ReferenceInput::kShape;
  out << "Sessions: " << kShape.tokens << " tokens, " << kShape.heads << " KV heads, head_dim "
      << kShape.head_dim << ", recent window " << recent_window << "\n\n";
  Table table({{"codec", Table::Align::kLeft},
               {"bytes"},
               {"vs fp16"},
               {"bits"},
               {"score err"},
               {"output err"},
               {"kernel err"},
               {"append"},
               {"attend"},
               {"chunked"},
               {"batched"}});
  for (const CodecReplay& replay : replays) {
    table.AddRow({replay.codec.preset(), CountText(replay.stored_bytes),
                  absl::StrFormat("%.2fx", 16.0 / replay.bits_per_element),
                  absl::StrFormat("%.2f", replay.bits_per_element),
                  absl::StrFormat("%.4f", replay.score_error),
                  absl::StrFormat("%.4f", replay.output_error),
                  absl::StrCat(absl::StrFormat("%.1e", replay.kernel_error),
                               replay.kernel_error <= kMaxKernelError ? "" : " DIFFERS"),
                  DurationText(replay.append_latency), DurationText(replay.attend_latency),
                  Verdict(replay.chunked_is_identical), Verdict(replay.batched_is_identical)});
  }
  table.Print(out);
  out << kSessionsLegend;
}

Json ToJson(const ReferenceReplay& replay) {
  Json figures = Json::array();
  for (const Figure& figure : replay.figures) {
    figures.push_back({{"group", figure.group},
                       {"name", figure.name},
                       {"expected", figure.expected},
                       {"found", figure.found},
                       {"ok", figure.ok}});
  }
  return {{"first_bitmap", replay.first_bitmap},
          {"padded_values", replay.padded_values},
          {"code_words", replay.code_words},
          {"int2_tile_share", replay.int2_tile_share},
          {"fp16_share", replay.fp16_share},
          {"int2_head_share", replay.int2_head_share},
          {"figures", figures}};
}

Json ToJson(const std::vector<CodecReplay>& replays) {
  Json rows = Json::array();
  for (const CodecReplay& replay : replays) {
    rows.push_back({{"codec", cli::ToJson(replay.codec)},
                    {"stored_bytes", replay.stored_bytes},
                    {"dense_bytes", replay.dense_bytes},
                    {"bits_per_element", replay.bits_per_element},
                    {"score_error", replay.score_error},
                    {"output_error", replay.output_error},
                    {"kernel_error", replay.kernel_error},
                    {"append_p50_seconds", absl::ToDoubleSeconds(replay.append_latency)},
                    {"attend_p50_seconds", absl::ToDoubleSeconds(replay.attend_latency)},
                    {"chunked_is_identical", replay.chunked_is_identical},
                    {"batched_is_identical", replay.batched_is_identical},
                    {"ok", replay.ok()}});
  }
  return rows;
}

absl::StatusOr<ExitCode> Run(const Arguments& arguments, Io& io) {
  const auto json = arguments.WantsJson();
  if (!json.ok()) return json.status();
  const auto recent_window = arguments.GetInt("recent-window", 0);
  if (!recent_window.ok()) return recent_window.status();
  const auto input = ReadReferenceInput(arguments.Get("data"));
  if (!input.ok()) return input.status();
  const auto client = Connect(arguments);
  if (!client.ok()) return client.status();
  const auto info = (*client)->GetServerInfo();
  if (!info.ok()) return info.status();

  Progress progress(io);
  progress.Show("reference formats");
  const auto reference = ReplayReference(client::CodecClient(**client), *input);
  if (!reference.ok()) return reference.status();
  const std::vector<v1::Codec> codecs(info->codecs().begin(), info->codecs().end());
  const auto sessions = ReplaySessions(
      **client, *input, codecs,
      {.recent_window = *recent_window, .keep = arguments.Has("keep-sessions")}, progress);
  if (!sessions.ok()) return sessions.status();
  progress.Show("");

  const auto bad_figures = std::count_if(reference->figures.begin(), reference->figures.end(),
                                         [](const Figure& figure) { return !figure.ok; });
  const auto bad_codecs = std::count_if(sessions->begin(), sessions->end(),
                                        [](const CodecReplay& replay) { return !replay.ok(); });
  const bool ok = bad_figures == 0 && bad_codecs == 0 && !sessions->empty();
  if (*json) {
    PrintJson({{"server",
                {{"version", info->version()},
                 {"device", info->device().kind()},
                 {"device_name", info->device().name()}}},
               {"reference", ToJson(*reference)},
               {"recent_window", *recent_window},
               {"sessions", ToJson(*sessions)},
               {"ok", ok}},
              io.out);
  } else {
    io.out << "kvattend " << info->version() << " on " << info->device().kind() << " ("
           << info->device().name() << ")\n\n";
    PrintReference(*reference, io.out);
    PrintSessions(*sessions, *recent_window, io.out);
    if (ok) io.out << "All figures are as expected.\n";
  }
  if (ok) return ExitCode::kOk;
  io.err << "kvattend replay: " << bad_figures << " figures and " << bad_codecs << " of "
         << sessions->size() << " codecs differ\n";
  return ExitCode::kFailed;
}

}  // namespace

Command ReplayCommand() {
  CommandSpec spec;
  spec.name = "replay";
  spec.summary = "sends the reference input through the server and checks every figure";
  spec.options = {
      {"data", "DIR", "where the reference tensors and figures.json are", "tests/data/golden"},
      {"recent-window", "N", "newest tokens that the sessions keep exact", "0"},
      {"keep-sessions", "", "leaves the sessions for a look at them", ""},
      ServerOption(),
      TimeoutOption(),
      FormatOption()};
  spec.description =
      "Compresses the reference keys in the three reference formats and checks every figure of "
      "figures.json. Then\nmakes two sessions for each codec, appends the reference cache token by "
      "token and in chunks, attends with\nthe reference queries, and compares with exact attention "
      "computed here in float64. Deletes its sessions again.\nExits with 1 where a figure differs, "
      "where "
      "chunks or batches change a bit of an answer, or where Attend is\nmore than 1e-3 from exact "
      "attention over the decompressed cache.";
  spec.examples = {"kvattend replay", "kvattend replay --server=10.0.0.7:50051 --data=golden",
                   "kvattend replay --recent-window=64 --format=json"};
  return {spec, Run};
}

}  // namespace kvattend::cli
