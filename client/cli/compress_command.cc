// kvattend compress: what a codec makes of a tensor in a file.
#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/command.h"
#include "client/cli/connect.h"
#include "client/cli/files.h"
#include "client/cli/json.h"
#include "client/cli/table.h"
#include "client/cli/values.h"
#include "client/cpp/codec_client.h"
#include "kernels/codec/block_layout.h"

namespace kvattend::cli {
namespace {

using client::AsBytes;
using client::CodecClient;
using client::TensorView;

// The reference format that a codec's name stands for, if any.
std::optional<v1::TileFormat> ParseTileFormat(absl::string_view name) {
  if (name == "mustafar-fp16") return v1::TILE_FORMAT_FP16;
  if (name == "mustafar-int2-tile") return v1::TILE_FORMAT_INT2_TILE;
  if (name == "mustafar-int2-head") return v1::TILE_FORMAT_INT2_HEAD;
  return std::nullopt;
}

struct Shape {
  int64_t heads = 0;
  int64_t tokens = 0;
  int64_t head_dim = 0;
  // Whether the file is [tokens, heads, head_dim] rather than [heads, tokens, head_dim].
  bool tokens_first = false;

  int64_t elements() const { return heads * tokens * head_dim; }
};

// What became of the keys, or of the values.
struct Outcome {
  std::string role;
  int64_t dense_bytes = 0;
  int64_t bytes = 0;
  double bits_per_element = 0;
  // sqrt(sum of squared errors / sum of squares), and the largest error.
  double relative_error = 0;
  double max_error = 0;
};

struct Input {
  Shape shape;
  v1::DataType dtype = v1::DATA_TYPE_FLOAT16;
  // As the codec wants them; tiles [heads, tokens, head_dim], else [tokens, heads, head_dim].
  std::string keys;
  std::string values;

  TensorView View(const std::string& data, bool tokens_first) const {
    const int64_t outer = tokens_first ? shape.tokens : shape.heads;
    const int64_t inner = tokens_first ? shape.heads : shape.tokens;
    return {dtype, {outer, inner, shape.head_dim}, AsBytes(absl::string_view(data))};
  }
};

absl::StatusOr<Shape> ParseShape(const std::string& text) {
  const auto dimensions = ParseDimensions(text);
  if (!dimensions.ok()) return dimensions.status();
  Shape shape;
  const auto& d = *dimensions;
  const bool well_formed = d.size() == 3 && d[2].first == "head_dim" &&
                           ((d[0].first == "kv_heads" && d[1].first == "tokens") ||
                            (d[0].first == "tokens" && d[1].first == "kv_heads"));
  if (!well_formed) {
    return UsageError(absl::StrCat(
        "--shape names the file's dimensions in their order: kv_heads=N,tokens=N,head_dim=N or "
        "tokens=N,kv_heads=N,head_dim=N; found \"",
        text, "\""));
  }
  shape.tokens_first = d[0].first == "tokens";
  shape.tokens = d[shape.tokens_first ? 0 : 1].second;
  shape.heads = d[shape.tokens_first ? 1 : 0].second;
  shape.head_dim = d[2].second;
  // Files of more than 2^40 elements are a slip of the pen.
  if (shape.heads > (int64_t{1} << 40) / shape.tokens / shape.head_dim) {
    return UsageError("--shape is too large");
  }
  return shape;
}

absl::StatusOr<Input> ReadInput(const Arguments& arguments, bool wants_tokens_first) {
  Input input;
  const auto shape = ParseShape(arguments.Get("shape"));
  if (!shape.ok()) return shape.status();
  const auto dtype = ParseDataType(arguments.Get("dtype"));
  if (!dtype.ok()) return dtype.status();
  input.shape = *shape;
  input.dtype = *dtype;
  const int64_t row_bytes = shape->head_dim * client::DataTypeBytes(*dtype);
  std::vector<std::string> tensors;
  for (const std::string& path : arguments.positionals()) {
    auto data = ReadTensorFile(path, shape->heads * shape->tokens * row_bytes);
    if (!data.ok()) return data.status();
    if (shape->tokens_first != wants_tokens_first) {
      const int64_t outer = shape->tokens_first ? shape->tokens : shape->heads;
      const int64_t inner = shape->tokens_first ? shape->heads : shape->tokens;
      *data = SwapOuterDimensions(*data, outer, inner, row_bytes);
    }
    tensors.push_back(*std::move(data));
  }
  input.keys = tensors.front();
  input.values = tensors.back();
  return input;
}

Outcome Measure(const std::string& role, const Input& input, const std::string& original,
                const v1::Tensor& restored, int64_t bytes) {
  const std::vector<float> expected =
      client::ToFloats(input.dtype, AsBytes(absl::string_view(original)));
  const std::vector<float> found =
      client::ToFloats(restored.dtype(), AsBytes(absl::string_view(restored.data())));
  double squared_error = 0;
  double squares = 0;
  Outcome outcome = {.role = role};
  for (size_t i = 0; i < std::min(expected.size(), found.size()); ++i) {
    const double error = std::abs(static_cast<double>(expected[i]) - found[i]);
    squared_error += error * error;
    squares += static_cast<double>(expected[i]) * expected[i];
    outcome.max_error = std::max(outcome.max_error, error);
  }
  outcome.relative_error = squares == 0 ? 0 : std::sqrt(squared_error / squares);
  outcome.dense_bytes = input.shape.elements() * static_cast<int64_t>(sizeof(uint16_t));
  outcome.bytes = bytes;
  outcome.bits_per_element =
      8.0 * static_cast<double>(bytes) / static_cast<double>(input.shape.elements());
  return outcome;
}

// Bytes of the keys in canonical blocks; the values have the rest.
absl::StatusOr<int64_t> KeyBytes(const v1::CanonicalBlocks& blocks) {
  const v1::Codec& codec = blocks.codec();
  const CodecSpec spec = {.head_dim = blocks.head_dim(),
                          .keys = {codec.keys().kept(), codec.keys().bits()},
                          .values = {codec.values().kept(), codec.values().bits()}};
  if (absl::Status status = ValidateCodec(spec); !status.ok()) return status;
  return blocks.num_tokens() / kBlockTokens * blocks.num_kv_heads() *
         static_cast<int64_t>(MakeBlockLayout(spec).keys.size_bytes);
}

absl::StatusOr<std::vector<Outcome>> RunCanonical(const CodecClient& codec_client,
                                                  const v1::Codec& codec, const Input& input,
                                                  std::string* compressed) {
  const auto blocks =
      codec_client.Compress(codec, input.View(input.keys, true), input.View(input.values, true));
  if (!blocks.ok()) return blocks.status();
  const auto restored = codec_client.Decompress(*blocks);
  if (!restored.ok()) return restored.status();
  const auto key_bytes = KeyBytes(*blocks);
  if (!key_bytes.ok()) return key_bytes.status();
  const int64_t value_bytes = static_cast<int64_t>(blocks->blocks().size()) - *key_bytes;
  v1::CompressResponse message;
  *message.mutable_canonical() = *blocks;
  *compressed = message.SerializeAsString();
  return std::vector<Outcome>{
      Measure("keys", input, input.keys, restored->keys, *key_bytes),
      Measure("values", input, input.values, restored->values, value_bytes)};
}

absl::StatusOr<std::vector<Outcome>> RunTiles(const CodecClient& codec_client,
                                              v1::TileFormat format, int64_t num_heads,
                                              const Input& input, std::string* compressed) {
  v1::TileOptions options;
  options.set_format(format);
  if (format == v1::TILE_FORMAT_INT2_HEAD) options.set_num_heads(static_cast<int>(num_heads));
  const auto tiles = codec_client.CompressTiles(options, input.View(input.keys, false),
                                                input.View(input.values, false));
  if (!tiles.ok()) return tiles.status();
  v1::CompressResponse message;
  std::vector<Outcome> outcomes;
  for (const bool is_key : {true, false}) {
    const v1::Tiles& part = is_key ? *tiles->keys : *tiles->values;
    const auto restored = codec_client.DecompressTiles(part);
    if (!restored.ok()) return restored.status();
    outcomes.push_back(Measure(is_key ? "keys" : "values", input,
                               is_key ? input.keys : input.values, *restored, part.total_bytes()));
    *(is_key ? message.mutable_key_tiles() : message.mutable_value_tiles()) = part;
  }
  *compressed = message.SerializeAsString();
  return outcomes;
}

void PrintOutcomes(const std::string& codec, const std::vector<Outcome>& outcomes, bool json,
                   std::ostream& out) {
  const auto ratio = [](const Outcome& outcome) {
    return static_cast<double>(outcome.dense_bytes) / static_cast<double>(outcome.bytes);
  };
  if (json) {
    Json rows = Json::array();
    for (const Outcome& outcome : outcomes) {
      rows.push_back({{"role", outcome.role},
                      {"dense_fp16_bytes", outcome.dense_bytes},
                      {"bytes", outcome.bytes},
                      {"times_smaller", ratio(outcome)},
                      {"bits_per_element", outcome.bits_per_element},
                      {"relative_error", outcome.relative_error},
                      {"max_error", outcome.max_error}});
    }
    PrintJson({{"codec", codec}, {"tensors", rows}}, out);
    return;
  }
  out << "codec " << codec << "\n\n";
  Table table({{"tensor", Table::Align::kLeft},
               {"dense fp16"},
               {"compressed"},
               {"times smaller"},
               {"bits/element"},
               {"relative error"},
               {"largest error"}});
  for (const Outcome& outcome : outcomes) {
    table.AddRow({outcome.role, CountText(outcome.dense_bytes), CountText(outcome.bytes),
                  absl::StrFormat("%.2f", ratio(outcome)),
                  absl::StrFormat("%.2f", outcome.bits_per_element),
                  absl::StrFormat("%.4f", outcome.relative_error),
                  absl::StrFormat("%.4f", outcome.max_error)});
  }
  table.Print(out);
}

absl::StatusOr<ExitCode> Run(const Arguments& arguments, Io& io) {
  const auto json = arguments.WantsJson();
  if (!json.ok()) return json.status();
  const std::string codec_name = arguments.Get("codec");
  const std::optional<v1::TileFormat> tile_format = ParseTileFormat(codec_name);
  const auto codec = ParseCodec(codec_name);
  if (!codec.ok()) return codec.status();
  const auto num_heads = arguments.GetInt("num-heads", 1);
  if (!num_heads.ok()) return num_heads.status();
  const auto input = ReadInput(arguments, /*wants_tokens_first=*/!tile_format.has_value());
  if (!input.ok()) return input.status();

  const auto client = Connect(arguments);
  if (!client.ok()) return client.status();
  const CodecClient codec_client(**client);
  std::string compressed;
  const auto outcomes = tile_format.has_value()
                            ? RunTiles(codec_client, *tile_format, *num_heads, *input, &compressed)
                            : RunCanonical(codec_client, *codec, *input, &compressed);
  if (!outcomes.ok()) return outcomes.status();
  if (arguments.Has("output")) {
    if (auto status = WriteFile(arguments.Get("output"), compressed); !status.ok()) return status;
  }
  PrintOutcomes(codec_name, *outcomes, *json, io.out);
  return ExitCode::kOk;
}

}  // namespace

Command CompressCommand() {
  CommandSpec spec;
  spec.name = "compress";
  spec.summary = "what a codec makes of a tensor in a file: bytes, ratio, error";
  spec.positionals = "KEYS [VALUES]";
  spec.min_positionals = 1;
  spec.max_positionals = 2;
  spec.options = {
      {"shape", "SHAPE", "the file's dimensions in order: kv_heads=N,tokens=N,head_dim=N", "",
       true},
      {"dtype", "TYPE", "float16, bfloat16 or float32, little-endian", "float16"},
      {"codec", "CODEC", "a preset, kept@bits/kept@bits, or mustafar-{fp16,int2-tile,int2-head}",
       "balanced"},
      {"num-heads", "N", "attention heads that share a scale (mustafar-int2-head)", "1"},
      {"output", "FILE", "writes the blocks or tiles, a CompressResponse message", ""},
      ServerOption(),
      TimeoutOption(),
      FormatOption()};
  spec.description =
      "Compresses raw tensors through the server, decompresses them again, and reports bytes and "
      "errors. With one\nfile it is coded both as keys and as values. tokens is a multiple of 64. "
      "The reference formats\n(mustafar-...) leave out zeros and prune nothing.";
  spec.examples = {
      "kvattend compress keys.f16 values.f16 --shape=kv_heads=8,tokens=256,head_dim=128",
      "kvattend compress keys.f32 --dtype=float32 --shape=tokens=4096,kv_heads=8,head_dim=128 "
      "--codec=lean",
      "kvattend compress keys.f16 --shape=kv_heads=8,tokens=256,head_dim=128 "
      "--codec=mustafar-int2-tile"};
  return {spec, Run};
}

}  // namespace kvattend::cli
