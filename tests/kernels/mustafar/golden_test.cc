// Every figure of tests/data/golden/figures.json, from the tensors beside it.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <numeric>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/half.h"
#include "kernels/mustafar/tile_codec.h"

namespace kvattend::mustafar {
namespace {

using ::testing::ElementsAre;

constexpr int kBatch = 8;
constexpr int kTokens = 256;
constexpr int kHeadDim = 128;
constexpr int kTilesPerRow = kTokens * kHeadDim / kTileElements;
constexpr double kDenseBytes = 2.0 * kBatch * kTokens * kHeadDim;

std::vector<uint16_t> ReadHalves(const std::string& name) {
  std::ifstream file(std::string(KVATTEND_TEST_DATA_DIR) + "/golden/" + name, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  std::vector<uint16_t> halves(bytes.size() / sizeof(uint16_t));
  std::memcpy(halves.data(), bytes.data(), halves.size() * sizeof(uint16_t));
  return halves;
}

Tiles Compress(TileFormat format, TileRole role, const std::vector<uint16_t>& dense) {
  const TileSpec spec{.format = format,
                      .role = role,
                      .batch = kBatch,
                      .num_tokens = kTokens,
                      .head_dim = kHeadDim,
                      .num_heads = format == TileFormat::kInt2Head ? 4 : 0};
  return CompressTiles(spec, dense).value();
}

Tiles CompressKeys(TileFormat format) {
  return Compress(format, TileRole::kKey, ReadHalves("seed42_k.f16"));
}

double RoundToHalf(double x) { return HalfToFloat(FloatToHalf(static_cast<float>(x))); }

// Rounded to float16, as the documents' kernels return them.
std::vector<double> HalfScores(const Tiles& tiles) {
  std::vector<double> scores;
  const std::vector<float> exact = TileScores(tiles, ReadHalves("seed42_q.f16")).value();
  for (const float score : exact) scores.push_back(RoundToHalf(score));
  return scores;
}

struct Statistics {
  double max = 0, min = 0, mean = 0, std = 0;
};
// The documents' output is [8, 8, 256], of which row 0 of each 8 is real and the rest zero.
Statistics PaddedStatistics(std::vector<double> values) {
  values.resize(8 * values.size(), 0.0);
  const double n = static_cast<double>(values.size());
  Statistics result;
  result.max = *std::max_element(values.begin(), values.end());
  result.min = *std::min_element(values.begin(), values.end());
  result.mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  for (const double x : values) result.std += (x - result.mean) * (x - result.mean);
  // Statistics of a float16 tensor are float16 there.
  result.mean = RoundToHalf(result.mean);
  result.std = RoundToHalf(std::sqrt(result.std / (n - 1)));
  return result;
}

// Half a unit in the last of four and six printed places.
constexpr double kPrinted4 = 5e-5;
constexpr double kPrinted6 = 5e-7;

TEST(GoldenTest, Fp16Keys) {
  const Tiles tiles = CompressKeys(TileFormat::kFp16);
  EXPECT_EQ(static_cast<int64_t>(tiles.bitmaps[0]), -4466983682215599831);

  const auto& counts = tiles.offsets;
  ASSERT_EQ(counts.size(), kBatch * (kTilesPerRow + 1));
  EXPECT_THAT(std::vector<int>(counts.begin(), counts.begin() + 10),
              ElementsAre(0, 12, 20, 32, 40, 52, 64, 72, 84, 96));
  EXPECT_EQ(counts[kTilesPerRow], 5736);

  std::vector<int> packed_lengths;
  for (int row = 0; row < kBatch; ++row) {
    EXPECT_EQ(counts[row * (kTilesPerRow + 1)], 0);
    packed_lengths.push_back(2 * counts[row * (kTilesPerRow + 1) + kTilesPerRow]);
  }
  EXPECT_THAT(packed_lengths, ElementsAre(11472, 11608, 11512, 11504, 11560, 11536, 11544, 11576));
  EXPECT_EQ(tiles.packed.size(), 2 * 92312);

  // Printed with the fewest digits that name the float16.
  const std::vector<float> first = {0.194f, 0.1973f,  0.8574f, 0.579f,  -0.05386f,
                                    1.363f, -0.7466f, 0.4216f, 0.4597f, -1.27f};
  for (size_t i = 0; i < first.size(); ++i) {
    EXPECT_EQ(tiles.packed[2 * i] | tiles.packed[2 * i + 1] << 8, FloatToHalf(first[i])) << i;
  }
  EXPECT_EQ(tiles.total_bytes(), 233808);
  EXPECT_NEAR(tiles.total_bytes() / kDenseBytes, 0.4460, 5e-5);
}

TEST(GoldenTest, Int2TileKeys) {
  const Tiles tiles = CompressKeys(TileFormat::kInt2Tile);
  EXPECT_EQ(tiles.packed.size(), 4 * 7165);
  EXPECT_EQ(tiles.offsets.size(), kBatch * kTilesPerRow);
  EXPECT_EQ(tiles.scales.size(), kBatch * kTilesPerRow);
  EXPECT_EQ(tiles.zeros.size(), kBatch * kTilesPerRow);
  EXPECT_EQ(tiles.total_bytes(), 110580);
  EXPECT_NEAR(tiles.total_bytes() / kDenseBytes, 0.2109, 5e-5);
}

TEST(GoldenTest, Int2HeadKeys) {
  const Tiles tiles = CompressKeys(TileFormat::kInt2Head);
  EXPECT_EQ(4 * tiles.packed.size(), 92312);
  EXPECT_EQ(tiles.head_scales.size(), 4);
  EXPECT_EQ(tiles.total_bytes(), 72238);
  EXPECT_NEAR(tiles.total_bytes() / kDenseBytes, 0.1378, 5e-5);
}

TEST(GoldenTest, ExactScores) {
  const std::vector<double> scores = HalfScores(CompressKeys(TileFormat::kFp16));
  const std::vector<double> first = {3.2324, -4.1094, 3.8105, 3.9355, -3.3164};
  for (size_t i = 0; i < first.size(); ++i) EXPECT_NEAR(scores[i], first[i], kPrinted4) << i;
  const Statistics statistics = PaddedStatistics(scores);
  EXPECT_EQ(statistics.max, 26.546875);
  EXPECT_EQ(statistics.min, -26.828125);
  EXPECT_NEAR(statistics.mean, 0.028259, kPrinted6);
  EXPECT_NEAR(statistics.std, 2.146484, kPrinted6);
}

TEST(GoldenTest, Int2TileScores) {
  const std::vector<double> exact = HalfScores(CompressKeys(TileFormat::kFp16));
  const std::vector<double> scores = HalfScores(CompressKeys(TileFormat::kInt2Tile));
  const std::vector<double> first = {6.6172, -8.6250, 5.5742, 1.9893, -1.3975};
  for (size_t i = 0; i < first.size(); ++i) EXPECT_NEAR(scores[i], first[i], kPrinted4) << i;
  const Statistics statistics = PaddedStatistics(scores);
  EXPECT_EQ(statistics.max, 26.671875);
  EXPECT_EQ(statistics.min, -22.859375);
  EXPECT_NEAR(statistics.mean, 0.021805, kPrinted6);
  EXPECT_NEAR(statistics.std, 2.291016, kPrinted6);

  std::vector<double> errors;
  for (size_t i = 0; i < scores.size(); ++i) errors.push_back(std::abs(scores[i] - exact[i]));
  std::sort(errors.begin(), errors.end());
  EXPECT_NEAR(std::accumulate(errors.begin(), errors.end(), 0.0) / errors.size(), 1.734860,
              kPrinted6);
  EXPECT_EQ(errors[(errors.size() - 1) / 2], 1.4375);
  EXPECT_EQ(errors.back(), 8.6953125);  // printed 8.695312
}

// No figure is printed for values; the tensors must survive.
TEST(GoldenTest, KeysAndValuesRoundTripInFp16) {
  for (const TileRole role : {TileRole::kKey, TileRole::kValue}) {
    const std::vector<uint16_t> dense =
        ReadHalves(role == TileRole::kKey ? "seed42_k.f16" : "seed42_v.f16");
    const std::vector<float> decoded =
        DecompressTiles(Compress(TileFormat::kFp16, role, dense)).value();
    ASSERT_EQ(decoded.size(), dense.size());
    for (size_t i = 0; i < dense.size(); ++i) ASSERT_EQ(decoded[i], HalfToFloat(dense[i])) << i;
  }
}

}  // namespace
}  // namespace kvattend::mustafar
