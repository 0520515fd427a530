#include "tests/support/random_tensors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/base/half.h"

namespace kvattend::testing {
namespace {

constexpr size_t kSize = 64 * 1024;

double MeanSquare(const std::vector<uint16_t>& tensor) {
  double sum = 0.0;
  for (const float x : ToFloats(tensor)) sum += static_cast<double>(x) * x;
  return sum / static_cast<double>(tensor.size());
}

TEST(RandomTensorsTest, SeedsDecide) {
  EXPECT_EQ(GaussianTensor(1, kSize), GaussianTensor(1, kSize));
  EXPECT_NE(GaussianTensor(1, kSize), GaussianTensor(2, kSize));
}

TEST(RandomTensorsTest, EveryValueIsFinite) {
  for (const auto& tensor :
       {GaussianTensor(1, kSize, 1e5), HeavyTailedTensor(1, kSize), SubnormalTensor(1, kSize),
        RandomPatternTensor(1, kSize), TiedTensor(1, kSize), ConstantTensor(kSize, 1e6f),
        OutlierChannelTensor(1, kSize, 128, 6, 1e5)}) {
    EXPECT_EQ(tensor.size(), kSize);
    EXPECT_TRUE(std::all_of(tensor.begin(), tensor.end(), IsFiniteHalf));
  }
}

TEST(RandomTensorsTest, GaussianHasItsDeviation) {
  EXPECT_NEAR(MeanSquare(GaussianTensor(3, kSize)), 1.0, 0.02);
  EXPECT_NEAR(MeanSquare(GaussianTensor(3, kSize, 4.0)), 16.0, 0.32);
}

TEST(RandomTensorsTest, HeavyTailsReachFromSubnormalsToThousands) {
  const std::vector<float> x = ToFloats(HeavyTailedTensor(4, kSize));
  EXPECT_TRUE(std::any_of(x.begin(), x.end(), [](float v) { return std::abs(v) > 4096; }));
  EXPECT_TRUE(
      std::any_of(x.begin(), x.end(), [](float v) { return v != 0 && std::abs(v) < 0x1p-20; }));
}

TEST(RandomTensorsTest, SubnormalsAreAllSubnormalOrZero) {
  for (const float x : ToFloats(SubnormalTensor(5, kSize))) ASSERT_LT(std::abs(x), 0x1p-14);
}

TEST(RandomTensorsTest, OutlierChannelsAreLarger) {
  const std::vector<uint16_t> tensor = OutlierChannelTensor(6, kSize, 64, 4, 8.0);
  for (size_t channel = 0; channel < 64; ++channel) {
    std::vector<uint16_t> column;
    for (size_t i = channel; i < kSize; i += 64) column.push_back(tensor[i]);
    const double expected = channel % 16 == 0 ? 64.0 : 1.0;
    EXPECT_NEAR(MeanSquare(column), expected, 0.25 * expected) << channel;
  }
}

}  // namespace
}  // namespace kvattend::testing
