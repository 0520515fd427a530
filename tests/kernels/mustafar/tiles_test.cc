#include "kernels/mustafar/tiles.h"

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/half.h"
#include "kernels/mustafar/tile_codec.h"

namespace kvattend::mustafar {
namespace {

using ::testing::HasSubstr;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr uint16_t kInfinityHalf = 0x7c00;

TileSpec MakeSpec(TileFormat format) {
  return {.format = format,
          .role = TileRole::kKey,
          .batch = 4,
          .num_tokens = 128,
          .head_dim = 64,
          .num_heads = format == TileFormat::kInt2Head ? 2 : 0};
}

// Tiles of 1 to 3 nonzeros.
Tiles MakeTiles(TileFormat format) {
  const TileSpec spec = MakeSpec(format);
  std::vector<uint16_t> dense(spec.dense_elements(), 0);
  for (size_t i = 0; i < dense.size(); i += 31) dense[i] = FloatToHalf(1.0f + i % 7);
  return CompressTiles(spec, dense).value();
}

TEST(ValidateTileSpecTest, AcceptsTheSmallestAndTheLargest) {
  TileSpec spec{.batch = 1, .num_tokens = 64, .head_dim = 64};
  EXPECT_TRUE(ValidateTileSpec(spec).ok());
  spec = {.batch = 1 << 10, .num_tokens = 1 << 14, .head_dim = 128};
  EXPECT_TRUE(ValidateTileSpec(spec).ok());
}

TEST(ValidateTileSpecTest, NamesTheFieldThatIsWrong) {
  struct Case {
    std::string field;
    std::function<void(TileSpec&)> corrupt;
  };
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max() / 64 * 64;
  const std::vector<Case> cases = {
      {"batch:", [](TileSpec& s) { s.batch = 0; }},
      {"batch:", [](TileSpec& s) { s.batch = -4; }},
      {"num_tokens:", [](TileSpec& s) { s.num_tokens = 0; }},
      {"num_tokens:", [](TileSpec& s) { s.num_tokens = -64; }},
      {"num_tokens:", [](TileSpec& s) { s.num_tokens = 65; }},
      {"head_dim:", [](TileSpec& s) { s.head_dim = 0; }},
      {"head_dim:", [](TileSpec& s) { s.head_dim = 96; }},
      {"batch * num_tokens * head_dim:", [](TileSpec& s) { s.batch = 1 << 20; }},
      {"batch * num_tokens * head_dim:", [](TileSpec& s) { s.batch = kHuge; }},
      {"batch * num_tokens * head_dim:", [](TileSpec& s) { s.num_tokens = kHuge; }},
      {"batch * num_tokens * head_dim:", [](TileSpec& s) { s.head_dim = kHuge; }},
      {"num_heads:", [](TileSpec& s) { s.num_heads = 0; }},
      {"num_heads:", [](TileSpec& s) { s.num_heads = -2; }},
      {"num_heads:", [](TileSpec& s) { s.num_heads = 3; }},
      {"num_heads:", [](TileSpec& s) { s.format = TileFormat::kFp16; }},
  };
  for (size_t i = 0; i < cases.size(); ++i) {
    TileSpec spec = MakeSpec(TileFormat::kInt2Head);
    cases[i].corrupt(spec);
    const absl::Status status = ValidateTileSpec(spec);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << i;
    EXPECT_THAT(std::string(status.message()), HasSubstr(cases[i].field)) << i;
  }
}

class ValidateTilesTest : public ::testing::TestWithParam<TileFormat> {
 protected:
  // Corrupts good tiles and expects every function that reads tiles to say that `field` is wrong.
  void ExpectRejected(const std::string& field, const std::function<void(Tiles&)>& corrupt) {
    SCOPED_TRACE(field);
    Tiles tiles = MakeTiles(GetParam());
    const std::vector<uint16_t> queries(tiles.spec.batch * tiles.spec.head_dim, 0);
    ASSERT_TRUE(ValidateTiles(tiles).ok());
    corrupt(tiles);
    for (const absl::Status& status : {ValidateTiles(tiles), DecompressTiles(tiles).status(),
                                       TileScores(tiles, queries).status()}) {
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(std::string(status.message()), HasSubstr(field));
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Formats, ValidateTilesTest,
                         ::testing::Values(TileFormat::kFp16, TileFormat::kInt2Tile,
                                           TileFormat::kInt2Head));

TEST_P(ValidateTilesTest, RejectsABadSpec) {
  ExpectRejected("num_tokens", [](Tiles& t) { t.spec.num_tokens = 100; });
  ExpectRejected("batch", [](Tiles& t) { t.spec.batch = int64_t{1} << 62; });
}

TEST_P(ValidateTilesTest, RejectsArraysOfAnotherSize) {
  ExpectRejected("bitmaps", [](Tiles& t) { t.spec.batch *= 2; });
  ExpectRejected("bitmaps", [](Tiles& t) { t.bitmaps.pop_back(); });
  ExpectRejected("bitmaps", [](Tiles& t) { t.bitmaps.clear(); });
  ExpectRejected("offsets", [](Tiles& t) { t.offsets.pop_back(); });
  ExpectRejected("offsets", [](Tiles& t) { t.offsets.push_back(0); });
  ExpectRejected("packed", [](Tiles& t) { t.packed.pop_back(); });
  ExpectRejected("packed", [](Tiles& t) { t.packed.push_back(0); });
  ExpectRejected("packed", [](Tiles& t) { t.packed.clear(); });
  ExpectRejected("scales", [](Tiles& t) { t.scales.push_back(1.0f); });
  ExpectRejected("zeros", [](Tiles& t) { t.zeros.push_back(1.0f); });
  ExpectRejected("head_scales", [](Tiles& t) { t.head_scales.push_back(1); });
}

TEST_P(ValidateTilesTest, RejectsOffsetsThatTheBitmapsContradict) {
  ExpectRejected("offsets[0]", [](Tiles& t) { t.offsets[0] = 1; });
  ExpectRejected("offsets[5]", [](Tiles& t) { t.offsets[5] = 0xffffffff; });    // far outside
  ExpectRejected("offsets[5]", [](Tiles& t) { t.offsets[5] = t.offsets[3]; });  // going back
  ExpectRejected("offsets[1]", [](Tiles& t) { t.bitmaps[0] = ~uint64_t{0}; });
  // 3 nonzeros at most: a tile becomes empty, or needs more than its padding.
  ExpectRejected("offsets[3]", [](Tiles& t) { t.bitmaps[2] = 0; });
  ExpectRejected("packed", [](Tiles& t) {
    t.bitmaps.back() = ~uint64_t{0};
    if (GetParam() == TileFormat::kFp16) t.offsets.back() += 28;
  });
}

TEST(ValidateInt2TilesTest, RejectsScalesThatAreNotFinite) {
  for (const float bad : {kNan, kInfinity, -kInfinity}) {
    Tiles tiles = MakeTiles(TileFormat::kInt2Tile);
    tiles.scales[3] = bad;
    EXPECT_THAT(std::string(ValidateTiles(tiles).message()), HasSubstr("[3]: not finite"));
    tiles = MakeTiles(TileFormat::kInt2Tile);
    tiles.zeros[3] = bad;
    EXPECT_THAT(std::string(ValidateTiles(tiles).message()), HasSubstr("[3]: not finite"));
  }
  Tiles tiles = MakeTiles(TileFormat::kInt2Tile);
  tiles.scales[3] = 1e30f;
  tiles.zeros[3] = -1e30f;  // both finite, but not their product
  EXPECT_THAT(std::string(ValidateTiles(tiles).message()), HasSubstr("[3]: not finite"));
}

TEST(ValidateInt2HeadTest, RejectsScalesThatAreNotFinite) {
  for (const uint16_t bad : {kInfinityHalf, uint16_t{0xfc00}, uint16_t{0x7e01}}) {
    Tiles tiles = MakeTiles(TileFormat::kInt2Head);
    tiles.head_scales[1] = bad;
    EXPECT_THAT(std::string(ValidateTiles(tiles).message()), HasSubstr("head_scales[1]"));
  }
}

TEST(ValidateFp16TilesTest, RejectsValuesThatAreNotFinite) {
  for (const uint16_t bad : {kInfinityHalf, uint16_t{0xfc00}, uint16_t{0x7e01}}) {
    Tiles tiles = MakeTiles(TileFormat::kFp16);
    tiles.packed[2 * 9] = bad & 0xff;
    tiles.packed[2 * 9 + 1] = bad >> 8;
    EXPECT_THAT(std::string(ValidateTiles(tiles).message()), HasSubstr("[9]: not finite"));
  }
}

}  // namespace
}  // namespace kvattend::mustafar
