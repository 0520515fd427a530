// kvattend plan: how many tokens and sessions fit, by codec.
#include <cmath>
#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/command.h"
#include "client/cli/json.h"
#include "client/cli/plan.h"
#include "client/cli/table.h"
#include "client/cli/values.h"

namespace kvattend::cli {
namespace {

struct NamedPlan {
  std::string name;
  CodecSpec codec;
  CodecPlan plan;
};

absl::Status ParseModelShape(const std::string& text, PlanInput* input) {
  auto dimensions = ParseDimensions(text);
  if (!dimensions.ok()) return dimensions.status();
  std::map<std::string, int64_t> sizes(dimensions->begin(), dimensions->end());
  input->num_layers = sizes["layers"];
  input->num_kv_heads = sizes["kv_heads"];
  const int64_t head_dim = sizes["head_dim"];
  // Nothing here depends on the query heads, but shapes come with them.
  const int64_t num_query_heads = sizes["query_heads"];
  sizes.erase("query_heads");
  if (sizes.size() != 3 || input->num_layers == 0 || input->num_kv_heads == 0 || head_dim == 0) {
    return UsageError(absl::StrCat(
        "--model-shape is layers=N,query_heads=N,kv_heads=N,head_dim=N; found \"", text, "\""));
  }
  if (input->num_layers > 1024 || input->num_kv_heads > 256) {
    return UsageError("--model-shape has at most 1,024 layers and 256 KV heads");
  }
  if (num_query_heads % input->num_kv_heads != 0) {
    return UsageError(absl::StrCat("query_heads is a multiple of kv_heads; found ", num_query_heads,
                                   " and ", input->num_kv_heads));
  }
  if (head_dim != 64 && head_dim != 128 && head_dim != 256) {
    return UsageError(absl::StrCat("head_dim is 64, 128 or 256; found ", head_dim));
  }
  input->head_dim = static_cast<int>(head_dim);
  return absl::OkStatus();
}

absl::StatusOr<PlanInput> ParseInput(const Arguments& arguments) {
  PlanInput input;
  if (auto status = ParseModelShape(arguments.Get("model-shape"), &input); !status.ok()) {
    return status;
  }
  const auto memory = ParseBytes(arguments.Get("memory"));
  if (!memory.ok()) return memory.status();
  const auto tokens = arguments.GetInt("tokens-per-session", 1);
  if (!tokens.ok()) return tokens.status();
  const auto window = arguments.GetInt("recent-window", 0);
  if (!window.ok()) return window.status();
  // The window's is the server's limit; the other keeps products within 64 bits.
  constexpr int64_t kMostTokens = int64_t{1} << 32;
  constexpr int64_t kMostWindow = int64_t{1} << 20;
  if (*tokens > kMostTokens) return UsageError("--tokens-per-session is at most 2^32");
  if (*window > kMostWindow) return UsageError("--recent-window is at most 1,048,576");
  input.memory_bytes = *memory;
  input.tokens_per_session = *tokens;
  input.recent_window = *window;
  return input;
}

Json ToJson(const CodecPlan& plan, const CodecPlan& dense) {
  return {{"block_bytes", plan.block_bytes},
          {"page_bytes", plan.page_bytes},
          {"bits_per_element", plan.bits_per_element},
          {"bytes_per_token", plan.bytes_per_token},
          {"tokens", plan.tokens},
          {"sessions", plan.sessions},
          {"times_dense", static_cast<double>(plan.tokens) / static_cast<double>(dense.tokens)}};
}

// What the presets give; those whose blocks are too large for a slab are left out, by name.
struct Plans {
  CodecPlan dense;
  std::vector<NamedPlan> codecs;
  std::vector<std::string> left_out;
};

absl::StatusOr<Plans> MakePlans(const PlanInput& input) {
  Plans plans;
  plans.dense = PlanDense(input);
  if (plans.dense.tokens == 0) return UsageError("--memory does not hold a single token");
  for (const CodecPreset& preset : CodecPresets()) {
    const auto codec = CodecFromPreset(preset.name, input.head_dim);
    if (!codec.ok()) return codec.status();
    if (const auto plan = PlanCodec(input, *codec); plan.ok()) {
      plans.codecs.push_back({preset.name, *codec, *plan});
    } else {
      plans.left_out.push_back(preset.name);
    }
  }
  return plans;
}

void PrintText(const PlanInput& input, const Plans& plans, std::ostream& out) {
  const CodecPlan& dense = plans.dense;
  out << input.num_layers << " layers, " << input.num_kv_heads << " KV heads, head_dim "
      << input.head_dim << "; " << BytesText(input.memory_bytes) << " for the cache; the newest "
      << CountText(input.recent_window) << " to " << CountText(input.recent_window + 63)
      << " tokens of a session stay exact\n\n";
  Table table({{"codec", Table::Align::kLeft},
               {"keys"},
               {"values"},
               {"bits/element"},
               {"bytes/token"},
               {"tokens, one session"},
               {"times dense"},
               {absl::StrCat("sessions of ", CountText(input.tokens_per_session))}});
  const auto add_row = [&](const std::string& name, const std::string& keys,
                           const std::string& values, const CodecPlan& plan) {
    table.AddRow({name, keys, values, absl::StrFormat("%.2f", plan.bits_per_element),
                  CountText(std::llround(plan.bytes_per_token)), CountText(plan.tokens),
                  absl::StrFormat(
                      "%.2f", static_cast<double>(plan.tokens) / static_cast<double>(dense.tokens)),
                  CountText(plan.sessions)});
  };
  add_row("dense fp16", "-", "-", dense);
  for (const NamedPlan& entry : plans.codecs) {
    const CodecSpec& codec = entry.codec;
    add_row(entry.name, absl::StrCat(codec.keys.kept, " at ", codec.keys.bits),
            absl::StrCat(codec.values.kept, " at ", codec.values.bits), entry.plan);
  }
  table.Print(out);
  out << "\nDense fp16 is a cache without a server, nothing lost to rounding. keys and values: "
         "channels kept of\n"
      << input.head_dim << " at bits. The server takes its memory in whole slabs of 2 MiB.\n";
  if (!plans.left_out.empty()) {
    out << "Left out, their blocks being larger than a slab: "
        << absl::StrJoin(plans.left_out, ", ") << "\n";
  }
}

Json PlansJson(const PlanInput& input, const Plans& plans) {
  Json codecs = Json::array();
  for (const NamedPlan& entry : plans.codecs) {
    const CodecSpec& codec = entry.codec;
    Json row = {{"codec", entry.name},
                {"keys", {{"kept", codec.keys.kept}, {"bits", codec.keys.bits}}},
                {"values", {{"kept", codec.values.kept}, {"bits", codec.values.bits}}}};
    row.update(ToJson(entry.plan, plans.dense));
    codecs.push_back(row);
  }
  return {{"num_layers", input.num_layers},
          {"num_kv_heads", input.num_kv_heads},
          {"head_dim", input.head_dim},
          {"memory_bytes", input.memory_bytes},
          {"recent_window", input.recent_window},
          {"tokens_per_session", input.tokens_per_session},
          {"dense_fp16", ToJson(plans.dense, plans.dense)},
          {"codecs", codecs},
          {"left_out", plans.left_out}};
}

absl::StatusOr<ExitCode> Run(const Arguments& arguments, Io& io) {
  const auto json = arguments.WantsJson();
  if (!json.ok()) return json.status();
  const auto input = ParseInput(arguments);
  if (!input.ok()) return input.status();
  const auto plans = MakePlans(*input);
  if (!plans.ok()) return plans.status();
  if (*json) {
    PrintJson(PlansJson(*input, *plans), io.out);
  } else {
    PrintText(*input, *plans, io.out);
  }
  return ExitCode::kOk;
}

}  // namespace

Command PlanCommand() {
  CommandSpec spec;
  spec.name = "plan";
  spec.summary = "how many tokens and sessions fit into memory, by codec";
  spec.options = {
      {"model-shape", "SHAPE", "layers=N,query_heads=N,kv_heads=N,head_dim=N", "", true},
      {"memory", "SIZE", "the server's --kv_memory, e.g. 80GiB", "", true},
      {"tokens-per-session", "N", "the length that sessions are counted at", "32768"},
      {"recent-window", "N", "newest tokens that sessions keep exact", "64"},
      FormatOption()};
  spec.description =
      "Computes how many tokens and sessions fit into a server's memory, for every preset codec "
      "and "
      "for dense\nfp16. Needs no server. Counts what the block pool counts: blocks of 64 tokens "
      "and "
      "pages of 16 exact\ntokens, rounded up to 256 bytes, in slabs of 2 MiB.";
  spec.examples = {
      "kvattend plan --model-shape=layers=32,query_heads=32,kv_heads=8,head_dim=128 --memory=80GiB",
      "kvattend plan --model-shape=layers=80,query_heads=64,kv_heads=8,head_dim=128 --memory=141GB "
      "\\\n      --tokens-per-session=131072 --format=json"};
  return {spec, Run};
}

}  // namespace kvattend::cli
