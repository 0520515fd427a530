#include "client/cli/replay_reference.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cli/exact_attention.h"
#include "client/cli/values.h"
#include "client/cpp/tensor.h"

namespace kvattend::cli {
namespace {

using client::AsBytes;
using client::CodecClient;
using client::TensorView;

constexpr AttentionShape kShape = ReferenceInput::kShape;
constexpr int64_t kDenseBytes =
    kShape.heads * kShape.tokens * kShape.head_dim * static_cast<int64_t>(sizeof(uint16_t));
constexpr int64_t kTilesPerRow = kShape.tokens * kShape.head_dim / 64;
// The documents' kernels write 8 rows of scores a head, of which the first is real.
constexpr int64_t kPaddedRows = 8;
// What a figure shows of a list: its first numbers.
constexpr int64_t kFirstNumbers = 10;
constexpr int64_t kFirstScores = 5;

constexpr char kFp16Group[] = "mustafar_fp16_key";
constexpr char kInt2TileGroup[] = "mustafar_int2_tile_key";
constexpr char kInt2HeadGroup[] = "mustafar_int2_head_key";
constexpr char kExactGroup[] = "exact_scores";

TensorView View(const std::string& data) {
  return {v1::DATA_TYPE_FLOAT16,
          {kShape.heads, kShape.tokens, kShape.head_dim},
          AsBytes(absl::string_view(data))};
}

template <typename T>
std::vector<T> ReadArray(const std::string& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

// What the arrays take, whatever the message says.
int64_t ArrayBytes(const v1::Tiles& tiles) {
  return static_cast<int64_t>(tiles.bitmaps().size() + tiles.offsets().size() +
                              tiles.packed().size() + tiles.scales().size() + tiles.zeros().size());
}

double Share(const v1::Tiles& tiles) {
  return static_cast<double>(ArrayBytes(tiles)) / static_cast<double>(kDenseBytes);
}

void AddInteger(const char* group, const char* name, int64_t value, FoundFigures* found) {
  (*found)[{group, name}] = {std::vector<int64_t>{value}, Precision::kExact};
}
void AddNumber(const char* group, const char* name, double value, Precision precision,
               FoundFigures* found) {
  (*found)[{group, name}] = {std::vector<double>{value}, precision};
}
void AddSizes(const char* group, const v1::Tiles& tiles, FoundFigures* found) {
  AddInteger(group, "total_bytes", ArrayBytes(tiles), found);
  AddNumber(group, "ratio_to_fp16", Share(tiles), Precision::kShare, found);
}

absl::StatusOr<v1::Tiles> CompressKeys(const CodecClient& codec, const ReferenceInput& input,
                                       v1::TileFormat format) {
  v1::TileOptions options;
  options.set_format(format);
  if (format == v1::TILE_FORMAT_INT2_HEAD) options.set_num_heads(ReferenceInput::kAttentionHeads);
  auto tiles = codec.CompressTiles(options, View(input.keys), std::nullopt);
  if (!tiles.ok()) return tiles.status();
  return *std::move(tiles->keys);
}

absl::StatusOr<std::vector<float>> Restore(const CodecClient& codec, const v1::Tiles& tiles) {
  const auto tensor = codec.DecompressTiles(tiles);
  if (!tensor.ok()) return tensor.status();
  std::vector<float> values =
      client::ToFloats(tensor->dtype(), AsBytes(absl::string_view(tensor->data())));
  if (static_cast<int64_t>(values.size()) != kDenseBytes / 2) {
    return absl::InternalError(absl::StrCat("decompression gave ", values.size(), " values"));
  }
  return values;
}

// As the documents' kernels give them: rounded to float16.
std::vector<double> RoundedScores(const ReferenceInput& input, absl::Span<const float> keys) {
  std::vector<double> scores = ExactScores(kShape, input.query_floats, keys);
  for (double& score : scores) {
    score = client::HalfToFloat(client::FloatToHalf(static_cast<float>(score)));
  }
  return scores;
}

// Statistics over the padded output: of each head's kPaddedRows rows all but the first are zeros.
void AddScores(const char* group, const std::vector<double>& scores, FoundFigures* found) {
  const double count = static_cast<double>(scores.size()) * kPaddedRows;
  const double mean = std::accumulate(scores.begin(), scores.end(), 0.0) / count;
  double squares = (count - static_cast<double>(scores.size())) * mean * mean;
  for (double score : scores) squares += (score - mean) * (score - mean);
  const auto [least, most] = std::minmax_element(scores.begin(), scores.end());
  const auto add = [&](const char* name, double value) {
    AddNumber(group, name, value, Precision::kHalfArithmetic, found);
  };
  (*found)[{group, "scores_0_first5"}] = {
      std::vector<double>(scores.begin(), scores.begin() + kFirstScores),
      Precision::kHalfArithmetic};
  add("padded_max", std::max(*most, 0.0));
  add("padded_min", std::min(*least, 0.0));
  add("padded_mean", mean);
  add("padded_std", std::sqrt(squares / (count - 1)));
}

void AddErrors(const char* group, const std::vector<double>& scores,
               const std::vector<double>& exact, FoundFigures* found) {
  std::vector<double> errors;
  for (size_t i = 0; i < scores.size(); ++i) errors.push_back(std::abs(scores[i] - exact[i]));
  std::sort(errors.begin(), errors.end());
  const auto add = [&](const char* name, double value) {
    AddNumber(group, name, value, Precision::kHalfArithmetic, found);
  };
  add("error_mean",
      std::accumulate(errors.begin(), errors.end(), 0.0) / static_cast<double>(errors.size()));
  // PyTorch's median: the lower of the two in the middle.
  add("error_median", errors[(errors.size() - 1) / 2]);
  add("error_max", errors.back());
}

absl::Status AddFp16(const v1::Tiles& tiles, FoundFigures* found, ReferenceReplay* replay) {
  const auto bitmaps = ReadArray<int64_t>(tiles.bitmaps());
  const auto counts = ReadArray<int32_t>(tiles.offsets());
  const auto packed = ReadArray<uint16_t>(tiles.packed());
  if (static_cast<int64_t>(bitmaps.size()) != kShape.heads * kTilesPerRow ||
      static_cast<int64_t>(counts.size()) != kShape.heads * (kTilesPerRow + 1) ||
      static_cast<int64_t>(packed.size()) < kFirstNumbers) {
    return absl::InternalError("fp16 tiles of the wrong size");
  }
  std::vector<int64_t> lengths;
  for (int64_t row = 0; row < kShape.heads; ++row) {
    // Counts are in units of two values.
    lengths.push_back(2 * int64_t{counts[(row + 1) * (kTilesPerRow + 1) - 1]});
  }
  std::vector<double> first_values;
  for (int64_t i = 0; i < kFirstNumbers; ++i) {
    first_values.push_back(client::HalfToFloat(packed[i]));
  }
  AddInteger(kFp16Group, "bitmap_0_0", bitmaps[0], found);
  (*found)[{kFp16Group, "accum_counts_0_first10"}] = {
      std::vector<int64_t>(counts.begin(), counts.begin() + kFirstNumbers), Precision::kExact};
  AddInteger(kFp16Group, "accum_counts_0_last", counts[kTilesPerRow], found);
  (*found)[{kFp16Group, "packed_lengths"}] = {lengths, Precision::kExact};
  (*found)[{kFp16Group, "packed_0_first10"}] = {first_values, Precision::kHalfPattern};
  AddSizes(kFp16Group, tiles, found);
  replay->first_bitmap = bitmaps[0];
  replay->padded_values = static_cast<int64_t>(packed.size());
  replay->fp16_share = Share(tiles);
  return absl::OkStatus();
}

// The sum of the expected packed lengths, which both padded formats must hold.
int64_t ExpectedPaddedValues(const Json& figures) {
  int64_t sum = 0;
  if (!figures.contains(kFp16Group) || !figures[kFp16Group].contains("packed_lengths")) return sum;
  for (const Json& length : figures[kFp16Group]["packed_lengths"]) {
    if (length.is_number_integer()) sum += length.get<int64_t>();
  }
  return sum;
}

// A count that figures.json implies rather than states.
Figure ImpliedCount(const char* group, const char* name, int64_t expected, int64_t found) {
  return {group, name, CountText(expected), CountText(found), expected == found};
}

int64_t CountDifferent(const std::vector<float>& a, const std::vector<float>& b) {
  int64_t count = 0;
  for (size_t i = 0; i < a.size(); ++i) count += a[i] != b[i] ? 1 : 0;
  return count;
}

}  // namespace

absl::StatusOr<ReferenceReplay> ReplayReference(const CodecClient& codec,
                                                const ReferenceInput& input) {
  ReferenceReplay replay;
  FoundFigures found;

  v1::TileOptions fp16;
  fp16.set_format(v1::TILE_FORMAT_FP16);
  const auto fp16_tiles = codec.CompressTiles(fp16, View(input.keys), View(input.values));
  if (!fp16_tiles.ok()) return fp16_tiles.status();
  if (auto status = AddFp16(*fp16_tiles->keys, &found, &replay); !status.ok()) return status;
  const auto restored_keys = Restore(codec, *fp16_tiles->keys);
  if (!restored_keys.ok()) return restored_keys.status();
  const auto restored_values = Restore(codec, *fp16_tiles->values);
  if (!restored_values.ok()) return restored_values.status();

  const auto int2_tiles = CompressKeys(codec, input, v1::TILE_FORMAT_INT2_TILE);
  if (!int2_tiles.ok()) return int2_tiles.status();
  const auto int2_keys = Restore(codec, *int2_tiles);
  if (!int2_keys.ok()) return int2_keys.status();
  replay.code_words = static_cast<int64_t>(int2_tiles->packed().size() / sizeof(int32_t));
  replay.int2_tile_share = Share(*int2_tiles);
  AddInteger(kInt2TileGroup, "code_words", replay.code_words, &found);
  AddSizes(kInt2TileGroup, *int2_tiles, &found);

  const auto int2_heads = CompressKeys(codec, input, v1::TILE_FORMAT_INT2_HEAD);
  if (!int2_heads.ok()) return int2_heads.status();
  replay.int2_head_share = Share(*int2_heads);
  AddSizes(kInt2HeadGroup, *int2_heads, &found);

  const std::vector<double> exact = RoundedScores(input, input.key_floats);
  const std::vector<double> from_tiles = RoundedScores(input, *int2_keys);
  AddScores(kExactGroup, exact, &found);
  AddScores(kInt2TileGroup, from_tiles, &found);
  AddErrors(kInt2TileGroup, from_tiles, exact, &found);

  replay.figures = CompareFigures(input.figures, found);
  const int64_t padded_values = ExpectedPaddedValues(input.figures);
  replay.figures.push_back(
      ImpliedCount(kFp16Group, "padded values", padded_values, replay.padded_values));
  // Four 2-bit codes a byte.
  replay.figures.push_back(ImpliedCount(kInt2HeadGroup, "padded values", padded_values,
                                        4 * static_cast<int64_t>(int2_heads->packed().size())));
  replay.figures.push_back(ImpliedCount(kFp16Group, "keys not restored exactly", 0,
                                        CountDifferent(*restored_keys, input.key_floats)));
  replay.figures.push_back(ImpliedCount("mustafar_fp16_value", "values not restored exactly", 0,
                                        CountDifferent(*restored_values, input.value_floats)));
  return replay;
}

}  // namespace kvattend::cli
