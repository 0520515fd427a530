#include "kernels/base/half.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

namespace kvattend {
namespace {

constexpr uint16_t kInfinityBits = 0x7c00;

// The value of a finite pattern, by definition.
double ValueOfHalf(uint16_t half) {
  const int exponent = (half >> 10) & 31;
  const int mantissa = half & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return half & 0x8000 ? -magnitude : magnitude;
}

// The nearest pattern by bisection over all non-negative ones; a tie goes to the even pattern.
uint16_t NearestHalf(double value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::abs(value);
  if (magnitude >= 65536.0) return sign | kInfinityBits;
  int low = 0;
  int high = kInfinityBits;  // stands for 65536, one step above the largest
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (ValueOfHalf(static_cast<uint16_t>(middle)) <= magnitude ? low : high) = middle;
  }
  const double below = magnitude - ValueOfHalf(static_cast<uint16_t>(low));
  const double above =
      (high == kInfinityBits ? 65536.0 : ValueOfHalf(static_cast<uint16_t>(high))) - magnitude;
  const bool up = above < below || (above == below && low % 2 == 1);
  return sign | static_cast<uint16_t>(up ? high : low);
}

TEST(HalfTest, EveryPatternHasItsValueAndComesBack) {
  for (int bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = HalfToFloat(half);
    if (IsFiniteHalf(half)) {
      ASSERT_EQ(value, ValueOfHalf(half)) << bits;
      ASSERT_EQ(std::signbit(value), (half & 0x8000) != 0) << bits;
      ASSERT_EQ(FloatToHalf(value), half);
      ASSERT_EQ(FloatToHalfSaturating(value), half);
    } else if ((half & 0x3ff) == 0) {
      ASSERT_EQ(value, half & 0x8000 ? -INFINITY : INFINITY);
      ASSERT_EQ(FloatToHalf(value), half);
    } else {
      ASSERT_TRUE(std::isnan(value)) << bits;
      ASSERT_EQ(FloatToHalf(value), half | 0x200) << bits;
    }
  }
}

TEST(HalfTest, RoundsToNearestEvenAroundEveryPattern) {
  for (int bits = 0; bits < kInfinityBits; ++bits) {
    const double value = ValueOfHalf(static_cast<uint16_t>(bits));
    const double next =
        bits + 1 == kInfinityBits ? 65536.0 : ValueOfHalf(static_cast<uint16_t>(bits + 1));
    const auto tie = static_cast<float>((value + next) / 2);  // exact in float32
    for (const float x : {tie, std::nextafter(tie, 0.0f), std::nextafter(tie, INFINITY)}) {
      ASSERT_EQ(FloatToHalf(x), NearestHalf(x)) << x;
      ASSERT_EQ(FloatToHalf(-x), NearestHalf(-x)) << -x;
    }
  }
}

TEST(HalfTest, RoundsRandomFloats) {
  std::mt19937 random(1);
  for (int i = 0; i < 1'000'000; ++i) {
    const float x = std::bit_cast<float>(static_cast<uint32_t>(random()));
    if (std::isnan(x)) continue;
    ASSERT_EQ(FloatToHalf(x), NearestHalf(x)) << x;
  }
}

TEST(HalfTest, Overflow) {
  EXPECT_EQ(FloatToHalf(65519.996f), kMaxHalfBits);
  EXPECT_EQ(FloatToHalf(65520.0f), kInfinityBits);
  EXPECT_EQ(FloatToHalf(-std::numeric_limits<float>::max()), 0x8000 | kInfinityBits);
  EXPECT_EQ(FloatToHalfSaturating(65520.0f), kMaxHalfBits);
  EXPECT_EQ(FloatToHalfSaturating(-INFINITY), 0x8000 | kMaxHalfBits);
  EXPECT_TRUE(std::isnan(HalfToFloat(FloatToHalfSaturating(NAN))));
  EXPECT_EQ(HalfToFloat(kMaxHalfBits), kMaxHalf);
}

TEST(HalfTest, UnderflowKeepsTheSign) {
  EXPECT_EQ(FloatToHalf(0x1p-25f), 0x0000);  // a tie with zero
  EXPECT_EQ(FloatToHalf(std::nextafter(0x1p-25f, 1.0f)), 0x0001);
  EXPECT_EQ(FloatToHalf(-std::numeric_limits<float>::denorm_min()), 0x8000);
  EXPECT_EQ(FloatToHalf(-0.0f), 0x8000);
}

TEST(HalfTest, Bfloat16IsTheUpperHalfOfAFloat) {
  EXPECT_EQ(Bfloat16ToFloat(0x3f80), 1.0f);
  EXPECT_EQ(Bfloat16ToFloat(0xc049), -3.140625f);
  EXPECT_EQ(Bfloat16ToFloat(0x0001), 0x1p-133f);
  EXPECT_EQ(Bfloat16ToFloat(0x7f80), INFINITY);
  EXPECT_TRUE(std::isnan(Bfloat16ToFloat(0x7fc0)));
}

}  // namespace
}  // namespace kvattend
