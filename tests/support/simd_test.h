// For tests that run once for every SIMD target that kernels were built for and this CPU has.
//
//   class EntryTest : public SimdTest {};
//   INSTANTIATE_TEST_SUITE_P(Targets, EntryTest, SimdTest::Targets(), SimdTest::TargetName);
//   TEST_P(EntryTest, ...)
#ifndef KVATTEND_TESTS_SUPPORT_SIMD_TEST_H_
#define KVATTEND_TESTS_SUPPORT_SIMD_TEST_H_

#include <cstdint>
#include <string>

#include "gtest/gtest.h"
#include "hwy/targets.h"

namespace kvattend::testing {

class SimdTest : public ::testing::TestWithParam<int64_t> {
 public:
  static auto Targets() { return ::testing::ValuesIn(hwy::SupportedAndGeneratedTargets()); }
  static std::string TargetName(const ::testing::TestParamInfo<int64_t>& info) {
    return hwy::TargetName(info.param);
  }

 protected:
  void SetUp() override { hwy::SetSupportedTargetsForTest(GetParam()); }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }
};

}  // namespace kvattend::testing

#endif  // KVATTEND_TESTS_SUPPORT_SIMD_TEST_H_
