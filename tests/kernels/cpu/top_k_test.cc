#include "kernels/cpu/top_k.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvattend {
namespace {

using ::testing::ElementsAre;

struct Top {
  std::vector<float> scores;
  std::vector<int64_t> positions;
};

Top Select(const std::vector<float>& scores, int64_t first_position, int64_t k) {
  Top top{std::vector<float>(k), std::vector<int64_t>(k)};
  const int64_t found =
      SelectTopK(scores, first_position, k, top.scores.data(), top.positions.data());
  top.scores.resize(found);
  top.positions.resize(found);
  return top;
}

TEST(TopKTest, DescendingWithTiesByPosition) {
  const Top top = Select({1.0f, 3.0f, 2.0f, 3.0f, -1.0f, 2.0f}, 10, 4);
  EXPECT_THAT(top.scores, ElementsAre(3.0f, 3.0f, 2.0f, 2.0f));
  EXPECT_THAT(top.positions, ElementsAre(11, 13, 12, 15));
}

TEST(TopKTest, FewerScoresThanAskedFor) {
  const Top top = Select({1.0f, 2.0f}, 0, 5);
  EXPECT_THAT(top.scores, ElementsAre(2.0f, 1.0f));
  EXPECT_THAT(top.positions, ElementsAre(1, 0));
  EXPECT_TRUE(Select({}, 0, 3).scores.empty());
}

// They come of queries near the end of float32's range; order must stay strict.
TEST(TopKTest, NansComeLast) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const Top top = Select({kNan, 1.0f, kNan, -kInfinity, kInfinity}, 0, 5);
  EXPECT_THAT(top.positions, ElementsAre(4, 1, 3, 0, 2));
}

}  // namespace
}  // namespace kvattend
