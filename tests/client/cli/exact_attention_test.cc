#include "client/cli/exact_attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace kvattend::cli {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;

constexpr AttentionShape kShape = {.heads = 2, .tokens = 3, .head_dim = 2};
const std::vector<float> kQueries = {1, 2, -1, 0.5};
const std::vector<float> kKeys = {1, 0, 0, 1, 1, 1, 2, 2, 0, 4, -2, 0};
const std::vector<float> kValues = {1, 0, 0, 1, 5, 5, 3, 1, 3, 2, 3, 3};

TEST(ExactAttentionTest, Scores) {
  EXPECT_THAT(ExactScores(kShape, kQueries, kKeys), ElementsAre(1, 2, 3, -1, 2, 2));
}

TEST(ExactAttentionTest, Outputs) {
  const std::vector<double> outputs =
      ExactOutputs(kShape, ExactScores(kShape, kQueries, kKeys), std::log(2.0), kValues);
  // Weights 2^score: 2, 4, 8 of 14 and 1/2, 4, 4 of 8.5.
  EXPECT_THAT(outputs, ElementsAre(DoubleNear(42.0 / 14, 1e-14), DoubleNear(44.0 / 14, 1e-14),
                                   DoubleNear(3.0, 1e-14), DoubleNear(20.5 / 8.5, 1e-14)));
}

TEST(ExactAttentionTest, LargeScoresDoNotOverflow) {
  const AttentionShape shape = {.heads = 1, .tokens = 2, .head_dim = 1};
  const std::vector<float> values = {1, 2};
  EXPECT_THAT(ExactOutputs(shape, std::vector<double>{5000, 4000}, 1.0, values), ElementsAre(1));
  EXPECT_THAT(ExactOutputs(shape, std::vector<double>{5000, 4000}, -1.0, values), ElementsAre(2));
}

TEST(ExactAttentionTest, RelativeErrorIsTheWorstHeads) {
  const std::vector<double> exact = {1, -4, 100, 50};
  EXPECT_EQ(RelativeError(2, std::vector<float>{1, -4, 100, 50}, exact), 0);
  EXPECT_EQ(RelativeError(2, std::vector<float>{2, -4, 100, 50}, exact), 0.25);
  EXPECT_EQ(RelativeError(2, std::vector<float>{1, -4, 100, 60}, exact), 0.1);
}

TEST(ExactAttentionTest, NonsenseIsInfinitelyWrong) {
  const double kInfinity = std::numeric_limits<double>::infinity();
  const std::vector<double> exact = {0, 0};
  EXPECT_EQ(RelativeError(1, std::vector<float>{0, 0}, exact), 0);
  EXPECT_EQ(RelativeError(1, std::vector<float>{0, 1}, exact), kInfinity);
  EXPECT_EQ(RelativeError(1, std::vector<float>{0, std::nanf("")}, exact), kInfinity);
  EXPECT_EQ(RelativeError(1, std::vector<float>{0}, exact), kInfinity);
}

}  // namespace
}  // namespace kvattend::cli
