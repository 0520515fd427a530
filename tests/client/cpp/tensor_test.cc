#include "client/cpp/tensor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

namespace kvattend::client {
namespace {

using ::testing::ElementsAre;

TEST(TensorTest, HalfToFloatOfKnownPatterns) {
  EXPECT_EQ(HalfToFloat(0x0000), 0.0f);
  EXPECT_TRUE(std::signbit(HalfToFloat(0x8000)));
  EXPECT_EQ(HalfToFloat(0x3c00), 1.0f);
  EXPECT_EQ(HalfToFloat(0xc000), -2.0f);
  EXPECT_EQ(HalfToFloat(0x7bff), 65504.0f);
  EXPECT_EQ(HalfToFloat(0x0001), 0x1p-24f);
  EXPECT_EQ(HalfToFloat(0x8001), -0x1p-24f);
  EXPECT_EQ(HalfToFloat(0x7c00), std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(HalfToFloat(0x7e00)));
}

TEST(TensorTest, EveryHalfSurvivesARoundTrip) {
  for (uint32_t half = 0; half < 0x10000; ++half) {
    const float value = HalfToFloat(static_cast<uint16_t>(half));
    if (std::isnan(value)) continue;
    ASSERT_EQ(FloatToHalf(value), half);
  }
}

TEST(TensorTest, FloatToHalfRoundsToNearestEven) {
  // Between every two neighbours: the middle goes to the even one, its neighbours to theirs.
  for (uint16_t half = 0; half < 0x7bff; ++half) {
    const float middle = 0.5f * (HalfToFloat(half) + HalfToFloat(half + 1));
    const uint16_t even = half % 2 == 0 ? half : half + 1;
    ASSERT_EQ(FloatToHalf(middle), even) << half;
    ASSERT_EQ(FloatToHalf(std::nextafter(middle, 0.0f)), half);
    ASSERT_EQ(FloatToHalf(std::nextafter(middle, 1e9f)), half + 1);
    ASSERT_EQ(FloatToHalf(-middle), even | 0x8000);
  }
  EXPECT_EQ(FloatToHalf(65519.99f), 0x7bff);
  EXPECT_EQ(FloatToHalf(65520.0f), 0x7c00);
  EXPECT_EQ(FloatToHalf(std::numeric_limits<float>::quiet_NaN()) & 0x7e00, 0x7e00);
}

TEST(TensorTest, ToFloatsReadsEachType) {
  const std::vector<float> values = {1.0f, -2.5f, 0.0f};
  EXPECT_THAT(ToFloats(v1::DATA_TYPE_FLOAT32, AsBytes(absl::MakeConstSpan(values))),
              ElementsAre(1.0f, -2.5f, 0.0f));
  const std::vector<uint16_t> halves = {0x3c00, 0xc100};
  EXPECT_THAT(ToFloats(v1::DATA_TYPE_FLOAT16, AsBytes(absl::MakeConstSpan(halves))),
              ElementsAre(1.0f, -2.5f));
  const std::vector<uint16_t> brain_floats = {0x3f80, 0xc020};
  EXPECT_THAT(ToFloats(v1::DATA_TYPE_BFLOAT16, AsBytes(absl::MakeConstSpan(brain_floats))),
              ElementsAre(1.0f, -2.5f));
  EXPECT_TRUE(ToFloats(v1::DATA_TYPE_UNSPECIFIED, AsBytes(absl::MakeConstSpan(halves))).empty());
}

}  // namespace
}  // namespace kvattend::client
