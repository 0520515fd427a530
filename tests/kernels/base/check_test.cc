#include "kernels/base/check.h"

#include <gtest/gtest.h>

namespace kvattend {
namespace {

TEST(CheckTest, PassesAndEvaluatesOnce) {
  int evaluations = 0;
  KVATTEND_CHECK(++evaluations == 1);
  EXPECT_EQ(evaluations, 1);
}

TEST(CheckDeathTest, AbortsNamingPlaceAndCondition) {
  EXPECT_DEATH(KVATTEND_CHECK(1 + 1 == 3), "check_test.cc:[0-9]+: check failed: 1 \\+ 1 == 3");
}

}  // namespace
}  // namespace kvattend
