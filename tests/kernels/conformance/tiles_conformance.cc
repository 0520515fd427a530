// MUSTAFAR's formats against the portable implementation.
#include <algorithm>
#include <cmath>
#include <string>

#include "kernels/mustafar/tile_codec.h"
#include "tests/kernels/conformance/conformance.h"
#include "tests/support/random_tensors.h"

namespace kvattend::testing {
namespace {

using mustafar::TileFormat;
using mustafar::TileRole;
using mustafar::Tiles;
using mustafar::TileSpec;

// A tensor of which about seven tenths are zeros, with tiles without nonzeros, of one, and of equal
// ones among them.
std::vector<uint16_t> SparseTensor(uint64_t seed, const TileSpec& spec) {
  std::vector<uint16_t> dense = GaussianTensor(seed, static_cast<size_t>(spec.dense_elements()));
  RandomStream random(seed + 1);
  for (uint16_t& half : dense) {
    // Zeros of either sign.
    if (random.Integer(0, 9) < 7) half &= 0x8000;
  }
  // In both roles, tiles lie within 64 tokens x 64 channels.
  const auto at = [&](int64_t token, int64_t channel) -> uint16_t& {
    return dense[static_cast<size_t>(token * spec.head_dim + channel)];
  };
  for (int64_t i = 0; i < 64; ++i) {
    at(i, 3) = at(3, i) = 0;
    at(i, 5) = at(5, i) = i % 3 == 0 ? 0x4248 : 0;
  }
  at(17, 3) = at(3, 17) = 0xc500;
  return dense;
}

class TilesConformanceTest : public BackendConformanceTest {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(TilesConformanceTest);
INSTANTIATE_TEST_SUITE_P(Backends, TilesConformanceTest, ::testing::ValuesIn(ConformanceBackends()),
                         [](const auto& info) { return info.param.name; });

std::vector<TileSpec> Specs() {
  std::vector<TileSpec> specs;
  for (const TileFormat format :
       {TileFormat::kFp16, TileFormat::kInt2Tile, TileFormat::kInt2Head}) {
    for (const TileRole role : {TileRole::kKey, TileRole::kValue}) {
      const int num_heads = format == TileFormat::kInt2Head ? 2 : 0;
      specs.push_back({format, role, 2, 64, 64, num_heads});
      specs.push_back({format, role, 6, 320, 128, num_heads});
      // More tokens than one thread adds up.
      specs.push_back({format, role, 2, 2112, 192, num_heads});
    }
  }
  return specs;
}

std::string Describe(const TileSpec& spec) {
  return "format " + std::to_string(static_cast<int>(spec.format)) + ", " +
         (spec.role == TileRole::kKey ? "keys " : "values ") + std::to_string(spec.num_tokens) +
         " x " + std::to_string(spec.head_dim);
}

TEST_P(TilesConformanceTest, CompressAndDecompress) {
  for (const TileSpec& spec : Specs()) {
    SCOPED_TRACE(Describe(spec));
    const std::vector<uint16_t> dense = SparseTensor(61, spec);
    const Tiles want = mustafar::CompressTiles(spec, dense).value();
    const absl::StatusOr<Tiles> got = backend().CompressTiles(spec, dense);
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_EQ(got->bitmaps, want.bitmaps);
    EXPECT_EQ(got->offsets, want.offsets);
    EXPECT_EQ(got->packed, want.packed);
    EXPECT_EQ(got->scales, want.scales);
    EXPECT_EQ(got->zeros, want.zeros);
    EXPECT_EQ(got->head_scales, want.head_scales);
    EXPECT_EQ(got->spec.num_tokens, spec.num_tokens);
    const absl::StatusOr<std::vector<float>> decoded = backend().DecompressTiles(want);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(*decoded, mustafar::DecompressTiles(want).value());
  }
}

TEST_P(TilesConformanceTest, ScoresAndOutputs) {
  for (const TileSpec& spec : Specs()) {
    SCOPED_TRACE(Describe(spec));
    const Tiles tiles = mustafar::CompressTiles(spec, SparseTensor(62, spec)).value();
    std::vector<float> want;
    absl::StatusOr<std::vector<float>> got;
    if (spec.role == TileRole::kKey) {
      const auto queries = GaussianTensor(63, static_cast<size_t>(spec.batch * spec.head_dim));
      want = mustafar::TileScores(tiles, queries).value();
      got = backend().TileScores(tiles, queries);
    } else {
      const auto weights =
          ToFloats(GaussianTensor(64, static_cast<size_t>(spec.batch * spec.num_tokens)));
      want = mustafar::TileOutputs(tiles, weights).value();
      got = backend().TileOutputs(tiles, weights);
    }
    ASSERT_TRUE(got.ok()) << got.status();
    ASSERT_EQ(got->size(), want.size());
    // Sums in float64, rounded once: another order moves a result by a unit in its last place, if
    // at all.
    for (size_t i = 0; i < want.size(); ++i) {
      ASSERT_NEAR((*got)[i], want[i], 0x1p-22 * std::abs(want[i])) << i;
    }
  }
}

// And goes on working afterwards: no device is asked to read past the end of an array.
TEST_P(TilesConformanceTest, RefusesWhatContradictsItself) {
  const TileSpec spec = Specs()[1];
  const std::vector<uint16_t> dense = SparseTensor(65, spec);
  Tiles tiles = mustafar::CompressTiles(spec, dense).value();
  EXPECT_EQ(backend().TileOutputs(tiles, std::vector<float>(6 * 320)).status().code(),
            absl::StatusCode::kInvalidArgument);
  tiles.bitmaps[7] = ~uint64_t{0};
  EXPECT_EQ(backend().DecompressTiles(tiles).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(backend().CompressTiles(spec, absl::MakeConstSpan(dense).subspan(1)).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace kvattend::testing
