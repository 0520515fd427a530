#include "kernels/base/status_macros.h"

#include <gtest/gtest.h>

#include <memory>

namespace kvattend {
namespace {

absl::Status Check(int value) {
  return value < 0 ? absl::InvalidArgumentError("negative") : absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<int>> Box(int value) {
  KVATTEND_RETURN_IF_ERROR(Check(value));
  return std::make_unique<int>(value);
}

absl::StatusOr<int> AddBoxed(int a, int b) {
  KVATTEND_ASSIGN_OR_RETURN(const std::unique_ptr<int> first, Box(a));
  KVATTEND_ASSIGN_OR_RETURN(const std::unique_ptr<int> second, Box(b));
  return *first + *second;
}

TEST(StatusMacrosTest, PassesValuesOn) { EXPECT_EQ(AddBoxed(2, 3).value(), 5); }

TEST(StatusMacrosTest, ReturnsTheFirstError) {
  EXPECT_EQ(AddBoxed(-1, 3).status(), absl::InvalidArgumentError("negative"));
  EXPECT_EQ(AddBoxed(2, -3).status(), absl::InvalidArgumentError("negative"));
}

}  // namespace
}  // namespace kvattend
