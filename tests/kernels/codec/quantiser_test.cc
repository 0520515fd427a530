#include "kernels/codec/quantiser.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/base/half.h"
#include "tests/support/random_tensors.h"

namespace kvattend {
namespace {

TEST(QuantiserTest, HalfOctavePowersAreRoundedOnce) {
  for (int e = kMinExponent; e <= -kMinExponent; ++e) {
    EXPECT_EQ(HalfOctavePower(e), static_cast<float>(std::exp2(e / 2.0))) << e;
  }
}

TEST(QuantiserTest, ExponentIsTheNearestOnALogScale) {
  testing::RandomStream random(1);
  for (int i = 0; i < 100'000; ++i) {
    const auto mean_square = static_cast<float>(std::exp2(-54.0 + 86.0 * random.Uniform()));
    const double log2 = std::log2(static_cast<double>(mean_square));
    EXPECT_LE(std::abs(EqualiserExponent(mean_square) - log2), 0.5) << mean_square;
  }
}

TEST(QuantiserTest, ExponentChangesAtTheSquareRootOfTwo) {
  const float below = std::bit_cast<float>(uint32_t{0x3fb504f3});
  const float above = std::bit_cast<float>(uint32_t{0x3fb504f4});
  ASSERT_LT(below, std::sqrt(2.0));
  ASSERT_GT(above, std::sqrt(2.0));
  for (const int octave : {-54, -1, 0, 1, 31}) {
    EXPECT_EQ(EqualiserExponent(std::ldexp(below, octave)), octave);
    EXPECT_EQ(EqualiserExponent(std::ldexp(above, octave)), octave + 1);
  }
}

TEST(QuantiserTest, ExponentsOfTheExtremes) {
  EXPECT_EQ(EqualiserExponent(0.0f), 0);
  EXPECT_EQ(EqualiserExponent(kMaxHalf * kMaxHalf), kMaxExponent);
  EXPECT_EQ(EqualiserExponent(0x1p-24f * 0x1p-24f / kBlockTokens), kMinExponent);
}

TEST(QuantiserTest, TwoBitLevelsByShareKept) {
  const TwoBitLevels few = TwoBitLevelsOf({.kept = 32, .bits = 2}, 128);
  EXPECT_EQ(few.ratio, 1.5f);
  EXPECT_EQ(few.threshold, 1.25f);
  EXPECT_EQ(few.first_border, 0.8125f * 1.25f / 32);
  const TwoBitLevels half = TwoBitLevelsOf({.kept = 64, .bits = 2}, 128);
  EXPECT_EQ(half.ratio, 2.0f);
  EXPECT_EQ(half.threshold, 1.5f);
  EXPECT_EQ(half.first_border, 0.71875f * 1.5f / 64);
  const TwoBitLevels all = TwoBitLevelsOf({.kept = 128, .bits = 2}, 128);
  EXPECT_EQ(all.ratio, 3.25f);
  EXPECT_EQ(all.threshold, 2.125f);
  EXPECT_EQ(all.first_border, 0.625f * 2.125f / 128);
}

}  // namespace
}  // namespace kvattend
