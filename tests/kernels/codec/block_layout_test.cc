#include "kernels/codec/block_layout.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>

namespace kvattend {
namespace {

BlockLayout LayoutOf(const char* preset, int head_dim = 128) {
  return MakeBlockLayout(CodecFromPreset(preset, head_dim).value());
}

TEST(BlockLayoutTest, SizesOfThePresets) {
  // Keys, values: as the design states them, and fp16 in full.
  const std::map<std::string, std::pair<size_t, size_t>> expected = {
      {"balanced", {2496, 2176}},      {"lean", {1728, 1920}},
      {"fine", {3328, 2432}},          {"fp16", {16384, 16384}},
      {"sparse50", {9216, 9216}},      {"sparse70", {5888, 5888}},
      {"sparse50-int4", {3328, 3200}}, {"sparse70-int4", {2496, 2368}},
      {"sparse50-int2", {2304, 2176}}, {"sparse70-int2", {1888, 1760}},
      {"int8", {8448, 8320}},          {"int4", {4352, 4224}},
      {"int2", {2304, 2176}}};
  ASSERT_EQ(expected.size(), CodecPresets().size());
  for (const auto& [preset, sizes] : expected) {
    const BlockLayout layout = LayoutOf(preset.c_str());
    EXPECT_EQ(layout.keys.size_bytes, sizes.first) << preset;
    EXPECT_EQ(layout.values.size_bytes, sizes.second) << preset;
    EXPECT_EQ(layout.head_bytes, sizes.first + sizes.second) << preset;
  }
}

TEST(BlockLayoutTest, RatiosToDense) {
  EXPECT_EQ(DenseHeadBytes(128), 32768u);
  const std::map<std::string, double> expected = {
      {"balanced", 7.01}, {"lean", 8.98},          {"fine", 5.69},          {"sparse70-int2", 8.98},
      {"int2", 7.31},     {"sparse50-int2", 7.31}, {"sparse70-int4", 6.74}, {"sparse50-int4", 5.02},
      {"int4", 3.82},     {"sparse70", 2.78},      {"int8", 1.95},          {"sparse50", 1.78}};
  for (const auto& [preset, ratio] : expected) {
    EXPECT_NEAR(32768.0 / static_cast<double>(LayoutOf(preset.c_str()).head_bytes), ratio, 0.006)
        << preset;
  }
}

TEST(BlockLayoutTest, PartsInOrderWithoutGaps) {
  const VectorLayout keys = LayoutOf("sparse70-int2", 64).keys;
  EXPECT_TRUE(keys.has_bitmaps && keys.has_exponents && keys.has_scales);
  EXPECT_EQ(keys.bitmap_offset, 0u);
  EXPECT_EQ(keys.exponent_offset, 64u * 8);
  EXPECT_EQ(keys.scale_offset, 64u * 8 + 64);
  EXPECT_EQ(keys.code_offset, 64u * 8 + 64 + 128);
  EXPECT_EQ(keys.size_bytes, 64u * 8 + 64 + 128 + 64 * 19 / 4);
}

TEST(BlockLayoutTest, PartsThatAreAbsent) {
  const BlockLayout dense = LayoutOf("fp16");
  EXPECT_FALSE(dense.keys.has_bitmaps || dense.keys.has_exponents || dense.keys.has_scales);
  EXPECT_EQ(dense.keys.code_offset, 0u);

  const VectorLayout values = LayoutOf("sparse70-int2").values;
  EXPECT_TRUE(values.has_bitmaps && values.has_scales);
  EXPECT_FALSE(values.has_exponents);
  EXPECT_EQ(values.scale_offset, 1024u);
}

TEST(BlockLayoutTest, CodesOfAnOddCountFillWholeBytes) {
  const BlockLayout layout = MakeBlockLayout({.head_dim = 64, .keys = {3, 2}, .values = {64, 8}});
  EXPECT_EQ(layout.keys.size_bytes - layout.keys.code_offset, 64u * 3 * 2 / 8);
}

}  // namespace
}  // namespace kvattend
