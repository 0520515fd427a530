#include "kernels/mustafar/tile_codec.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/half.h"

namespace kvattend::mustafar {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint16_t kMinusZero = 0x8000;

TileSpec MakeSpec(TileFormat format, TileRole role, int64_t num_tokens = 192,
                  int64_t head_dim = 128) {
  return {.format = format,
          .role = role,
          .batch = 4,
          .num_tokens = num_tokens,
          .head_dim = head_dim,
          .num_heads = format == TileFormat::kInt2Head ? 2 : 0};
}

// Gaussian with a share of zeros, of which some are -0.0; the share differs from row to row, so
// that tiles of all counts occur.
std::vector<uint16_t> RandomDense(const TileSpec& spec, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<float> uniform;
  std::vector<uint16_t> dense(spec.dense_elements());
  const size_t row_elements = dense.size() / spec.batch;
  for (size_t i = 0; i < dense.size(); ++i) {
    const size_t row = i / row_elements;
    const float density = static_cast<float>(row) / (spec.batch - 1);
    if (uniform(generator) < density) {
      dense[i] = FloatToHalf(normal(generator));
    } else {
      dense[i] = uniform(generator) < 0.5f ? 0 : kMinusZero;
    }
  }
  return dense;
}

std::vector<float> ToFloats(const std::vector<uint16_t>& halves) {
  std::vector<float> floats;
  for (const uint16_t half : halves) floats.push_back(HalfToFloat(half));
  return floats;
}

// The indices of a tile's elements in the dense tensor, from the words of the format.
std::vector<size_t> TileIndices(const TileSpec& spec, int64_t row, int64_t tile) {
  std::vector<size_t> indices;
  const int64_t block = tile / spec.head_dim;
  const int64_t index = tile % spec.head_dim;
  for (int64_t i = 0; i < kTileElements; ++i) {
    const bool is_key = spec.role == TileRole::kKey;
    const int64_t token = 64 * block + (is_key ? i : index % 64);
    const int64_t channel = is_key ? index : index / 64 * 64 + i;
    indices.push_back((row * spec.num_tokens + token) * spec.head_dim + channel);
  }
  return indices;
}

// A tensor of one tile: element i of it is values[i], the rest is zero.
std::vector<uint16_t> OneTile(const std::vector<float>& values) {
  std::vector<uint16_t> dense(64 * 64, 0);
  for (size_t i = 0; i < values.size(); ++i) dense[i * 64] = FloatToHalf(values[i]);
  return dense;
}
constexpr TileSpec kOneTileSpec{
    .role = TileRole::kKey, .batch = 1, .num_tokens = 64, .head_dim = 64};

class TileCodecTest : public ::testing::TestWithParam<std::tuple<TileFormat, TileRole>> {
 protected:
  TileFormat format() const { return std::get<0>(GetParam()); }
  TileRole role() const { return std::get<1>(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(FormatsAndRoles, TileCodecTest,
                         ::testing::Combine(::testing::Values(TileFormat::kFp16,
                                                              TileFormat::kInt2Tile,
                                                              TileFormat::kInt2Head),
                                            ::testing::Values(TileRole::kKey, TileRole::kValue)));

TEST_P(TileCodecTest, RoundTripsWithinTheFormatsError) {
  for (const int64_t head_dim : {64, 128, 256}) {
    const TileSpec spec = MakeSpec(format(), role(), 192, head_dim);
    const std::vector<uint16_t> dense = RandomDense(spec, 1);
    const std::vector<float> expected = ToFloats(dense);
    const Tiles tiles = CompressTiles(spec, dense).value();
    ASSERT_TRUE(ValidateTiles(tiles).ok()) << ValidateTiles(tiles);
    const std::vector<float> decoded = DecompressTiles(tiles).value();
    ASSERT_EQ(decoded.size(), dense.size());

    for (int64_t row = 0; row < spec.batch; ++row) {
      for (int64_t tile = 0; tile < spec.tiles_per_row(); ++tile) {
        const size_t t = row * spec.tiles_per_row() + tile;
        // Rounding to a level, and the zero point's rounding; the outermost levels of a head hold
        // its largest value but for the scale's rounding.
        float bound = 0.0f;
        if (format() == TileFormat::kInt2Tile) bound = 1.001f * std::abs(tiles.scales[t]);
        if (format() == TileFormat::kInt2Head) {
          bound = 0.502f * HalfToFloat(tiles.head_scales[row % 2]);
        }
        const std::vector<size_t> indices = TileIndices(spec, row, tile);
        for (int i = 0; i < kTileElements; ++i) {
          const float x = expected[indices[i]];
          ASSERT_EQ(tiles.bitmaps[t] >> (63 - i) & 1, x != 0.0f ? 1 : 0) << t << " " << i;
          ASSERT_LE(std::abs(decoded[indices[i]] - x), x != 0.0f ? bound : 0.0f) << t << " " << i;
        }
      }
    }
  }
}

TEST_P(TileCodecTest, ZerosTakeNoSpaceAndComeBack) {
  const TileSpec spec = MakeSpec(format(), role());
  std::vector<uint16_t> dense(spec.dense_elements(), 0);
  for (size_t i = 0; i < dense.size(); i += 3) dense[i] = kMinusZero;
  const Tiles tiles = CompressTiles(spec, dense).value();
  EXPECT_THAT(tiles.bitmaps, Each(0));
  EXPECT_THAT(tiles.offsets, Each(0));
  EXPECT_THAT(tiles.packed, ::testing::IsEmpty());
  EXPECT_THAT(tiles.scales, Each(0.0f));
  EXPECT_THAT(tiles.zeros, Each(0.0f));
  EXPECT_THAT(tiles.head_scales, Each(0));
  EXPECT_THAT(DecompressTiles(tiles).value(), Each(0.0f));
}

TEST_P(TileCodecTest, ProductsEqualThoseOfTheDecompressedTensor) {
  const TileSpec spec = MakeSpec(format(), role());
  const Tiles tiles = CompressTiles(spec, RandomDense(spec, 2)).value();
  const std::vector<float> decoded = DecompressTiles(tiles).value();
  const bool is_key = role() == TileRole::kKey;
  std::mt19937 generator(3);
  std::normal_distribution<float> normal;
  std::vector<uint16_t> operand(spec.batch * (is_key ? spec.head_dim : spec.num_tokens));
  for (uint16_t& x : operand) x = FloatToHalf(normal(generator));
  const std::vector<float> weights = ToFloats(operand);

  const std::vector<float> results =
      (is_key ? TileScores(tiles, operand) : TileOutputs(tiles, weights)).value();
  std::vector<double> expected(spec.batch * (is_key ? spec.num_tokens : spec.head_dim), 0.0);
  ASSERT_EQ(results.size(), expected.size());
  for (int64_t row = 0; row < spec.batch; ++row) {
    for (int64_t token = 0; token < spec.num_tokens; ++token) {
      for (int64_t channel = 0; channel < spec.head_dim; ++channel) {
        const float value = decoded[(row * spec.num_tokens + token) * spec.head_dim + channel];
        const double factor = HalfToFloat(FloatToHalf(value));
        if (is_key) {
          expected[row * spec.num_tokens + token] +=
              factor * weights[row * spec.head_dim + channel];
        } else {
          expected[row * spec.head_dim + channel] +=
              factor * weights[row * spec.num_tokens + token];
        }
      }
    }
  }
  for (size_t i = 0; i < results.size(); ++i) {
    // One rounding to float32; float64 sums in another order.
    ASSERT_NEAR(results[i], expected[i], 1e-7 * std::abs(expected[i]) + 1e-12) << i;
  }
}

TEST_P(TileCodecTest, RefusesOperandsOfTheWrongSizeOrRole) {
  const TileSpec spec = MakeSpec(format(), role());
  const Tiles tiles = CompressTiles(spec, RandomDense(spec, 4)).value();
  const std::vector<uint16_t> queries(spec.batch * spec.head_dim + 1, 0);
  const std::vector<float> weights(spec.batch * spec.num_tokens + 1, 0.0f);
  const absl::Status scores = TileScores(tiles, queries).status();
  const absl::Status outputs = TileOutputs(tiles, weights).status();
  EXPECT_EQ(scores.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(outputs.code(), absl::StatusCode::kInvalidArgument);
  const bool is_key = role() == TileRole::kKey;
  EXPECT_THAT(std::string(scores.message()), HasSubstr(is_key ? "queries" : "role"));
  EXPECT_THAT(std::string(outputs.message()), HasSubstr(is_key ? "role" : "weights"));
}

TEST_P(TileCodecTest, RefusesDenseInputThatIsWrong) {
  const TileSpec spec = MakeSpec(format(), role());
  std::vector<uint16_t> dense = RandomDense(spec, 5);
  const auto message_of = [&](const TileSpec& bad_spec) {
    const absl::Status status = CompressTiles(bad_spec, dense).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  TileSpec bad_spec = spec;
  bad_spec.head_dim = 100;
  EXPECT_THAT(message_of(bad_spec), HasSubstr("head_dim"));
  dense[777] = 0x7c00;
  EXPECT_THAT(message_of(spec), HasSubstr("dense[777]"));
  dense.pop_back();
  EXPECT_THAT(message_of(spec), HasSubstr("dense: expected"));
}

TEST(TileCodecFp16Test, PadsToEightAndCountsInPairs) {
  TileSpec spec = kOneTileSpec;
  spec.batch = 2;
  std::vector<uint16_t> dense = OneTile(std::vector<float>(9, 1.5f));
  dense.resize(2 * dense.size(), 0);
  dense.back() = FloatToHalf(-2.0f);  // token 63, channel 63 of row 1
  const Tiles tiles = CompressTiles(spec, dense).value();
  EXPECT_EQ(tiles.bitmaps[0], 0xff80000000000000);
  EXPECT_EQ(tiles.bitmaps[127], 1);
  ASSERT_EQ(tiles.offsets.size(), 2 * 65);
  EXPECT_EQ(tiles.offsets[1], 8);   // 9 values take 16
  EXPECT_EQ(tiles.offsets[64], 8);  // the row's total
  EXPECT_EQ(tiles.offsets[65], 0);  // counts start anew
  EXPECT_EQ(tiles.offsets[129], 4);
  ASSERT_EQ(tiles.packed.size(), 2 * (16 + 8));
  EXPECT_EQ(tiles.packed[2 * 8 + 1], 0x3e);  // 1.5 is 0x3e00
  EXPECT_THAT(std::vector<uint8_t>(tiles.packed.begin() + 18, tiles.packed.begin() + 32), Each(0));
  EXPECT_EQ(tiles.packed[33], 0xc0);  // -2 is 0xc000
}

TEST(TileCodecInt2TileTest, CodesAsTheFormatSays) {
  TileSpec spec = kOneTileSpec;
  spec.format = TileFormat::kInt2Tile;
  // scale = (5 - -1) / 3 = 2, zero = floor(1 / 2 + 0.5) = 1; 2 and 4 lie between levels and go up.
  const Tiles tiles =
      CompressTiles(spec, OneTile({-1.0f, 5.0f, 0.0f, 2.0f, 4.0f, 0.5f, -0.5f})).value();
  EXPECT_EQ(tiles.scales[0], 2.0f);
  EXPECT_EQ(tiles.zeros[0], 1.0f);
  EXPECT_EQ(tiles.bitmaps[0] >> 57, 0b1101111);
  // Codes 1 3 2 3 1 1: -1 / 2 + 1 + 0.5 = 1, ...
  EXPECT_THAT(tiles.packed, ElementsAre(1 | 3 << 2 | 2 << 4 | 3 << 6, 1 | 1 << 2, 0, 0));
  EXPECT_EQ(tiles.offsets[1], 1);
  EXPECT_EQ(tiles.offsets[63], 1);
  const std::vector<float> decoded = DecompressTiles(tiles).value();
  EXPECT_EQ(decoded[0 * 64], 0.0f);
  EXPECT_EQ(decoded[1 * 64], 4.0f);
  EXPECT_EQ(decoded[3 * 64], 2.0f);
}

TEST(TileCodecInt2TileTest, EqualNonzerosDecodeExactly) {
  TileSpec spec = kOneTileSpec;
  spec.format = TileFormat::kInt2Tile;
  for (const float value : {1.0f, -0.1f, 65504.0f, -65504.0f, 0x1p-24f, -0x1.ff8p-15f}) {
    for (const int count : {1, 2, 16, 17, 64}) {
      std::vector<uint16_t> dense = OneTile(std::vector<float>(count, value));
      const Tiles tiles = CompressTiles(spec, dense).value();
      EXPECT_EQ(tiles.scales[0], HalfToFloat(dense[0]));
      EXPECT_EQ(tiles.zeros[0], -1.0f);
      EXPECT_THAT(tiles.packed, Each(0));
      EXPECT_EQ(DecompressTiles(tiles).value(), ToFloats(dense)) << value << " x " << count;
    }
  }
}

// Levels may lie beyond float16 here: outputs and scores stay finite.
TEST(TileCodecInt2TileTest, ExtremeValues) {
  TileSpec spec = kOneTileSpec;
  spec.format = TileFormat::kInt2Tile;
  const Tiles tiles = CompressTiles(spec, OneTile({65504.0f, -65504.0f, 0x1p-24f})).value();
  ASSERT_TRUE(ValidateTiles(tiles).ok());
  const std::vector<uint16_t> queries(64, FloatToHalf(1.0f));
  const std::vector<float> scores = TileScores(tiles, queries).value();
  EXPECT_LE(*std::max_element(scores.begin(), scores.end()), 65504.0f);
  EXPECT_GE(*std::min_element(scores.begin(), scores.end()), -65504.0f);
  EXPECT_NEAR(scores[1], -65504.0f, 131008.0f / 3);
}

TEST(TileCodecInt2HeadTest, SharesScalesOverTheBatch) {
  TileSpec spec = kOneTileSpec;
  spec.format = TileFormat::kInt2Head;
  spec.batch = 6;
  spec.num_heads = 3;  // of rows 0 and 3, 1 and 4, 2 and 5; the last head is all zeros
  std::vector<uint16_t> dense(spec.dense_elements(), 0);
  const auto set = [&](int64_t row, int64_t token, float value) {
    dense[(row * 64 + token) * 64] = FloatToHalf(value);
  };
  const std::vector<float> row0 = {0.5f, -0.5f, 1.5f, -1.5f, 0.9f, -0.1f};
  for (size_t i = 0; i < row0.size(); ++i) set(0, i, row0[i]);
  set(3, 7, -3.0f);
  set(4, 63, 0x1p-24f);
  const Tiles tiles = CompressTiles(spec, dense).value();
  EXPECT_THAT(tiles.head_scales, ElementsAre(FloatToHalf(2.0f), 1, 0));
  // x / 2 + 2, rounded down: 2 1 2 1 2 1, padded to 8; -3 is code 0.
  EXPECT_THAT(tiles.packed, ElementsAre(2 | 1 << 2 | 2 << 4 | 1 << 6, 2 | 1 << 2, 0, 0, 3, 0));
  EXPECT_EQ(tiles.offsets[0], 0);
  EXPECT_EQ(tiles.offsets[1], 2);
  EXPECT_EQ(tiles.offsets[3 * 64 + 1], 4);
  const std::vector<float> decoded = DecompressTiles(tiles).value();
  EXPECT_EQ(decoded[0], 1.0f);
  EXPECT_EQ(decoded[64], -1.0f);
  EXPECT_EQ(decoded[(3 * 64 + 7) * 64], -3.0f);
  EXPECT_EQ(decoded[(4 * 64 + 63) * 64], 1.5f * 0x1p-24f);
}

}  // namespace
}  // namespace kvattend::mustafar
