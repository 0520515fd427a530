// Attention on the GPU against float64, for every preset and odd shapes. Skipped without a GPU.
#include "kernels/cuda/attend.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/gpu/attend_case.h"

namespace kvattend::testing {
namespace {

// The project's tolerance. Fixed point rounds a scaled query to 2^-16 of its largest element, so a
// score is off by some 2^-17 of max|q| * |k|; these keys have channels 8 times as large as others.
constexpr double kTolerance = 2e-3;

class GpuAttendTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) GTEST_SKIP() << "no GPU";
  }

  CodecSpec Codec(int head_dim) const { return CodecFromPreset(GetParam(), head_dim).value(); }

  static void ExpectRight(const AttendCaseSpec& spec, int stride = 1) {
    AttendCase attend(spec);
    attend.Poison();
    KVATTEND_CHECK_CUDA(attend.Launch(0, nullptr));
    KVATTEND_CHECK_CUDA(cudaDeviceSynchronize());
    std::string where;
    const double error = attend.WorstError(stride, &where);
    EXPECT_LE(error, kTolerance) << where << "; head_dim " << spec.codec.head_dim << ", group "
                                 << spec.group << ", KV heads " << spec.num_kv_heads;
  }
};

TEST_P(GpuAttendTest, OneTokenOverSessionsOfManyLengths) {
  for (const int head_dim : {64, 128, 256}) {
    for (const int group : {1, 4, 5, 8}) {
      ExpectRight({.codec = Codec(head_dim),
                   .num_kv_heads = 2,
                   .group = group,
                   .sessions = {{.num_blocks = 1},
                                {.num_exact = 1},
                                {.num_blocks = 3, .num_exact = 17},
                                {.num_exact = 64},
                                {.num_blocks = 40, .num_exact = 130},
                                {.num_blocks = 67, .num_exact = 63}}});
    }
  }
}

TEST_P(GpuAttendTest, ManyTokensSeeWhatIsBeforeThem) {
  for (const int head_dim : {64, 128, 256}) {
    ExpectRight({.codec = Codec(head_dim),
                 .num_kv_heads = 2,
                 .group = 3,
                 .sessions = {{.num_blocks = 2, .num_query_tokens = 128},
                              {.num_blocks = 2, .num_exact = 20, .num_query_tokens = 3},
                              {.num_exact = 50, .num_query_tokens = 50},
                              {.num_blocks = 5, .num_exact = 70, .num_query_tokens = 100}},
                 .seed = 2});
  }
}

TEST_P(GpuAttendTest, StartsWhereItIsTold) {
  ExpectRight({.codec = Codec(128),
               .num_kv_heads = 3,
               .group = 2,
               .sessions = {{.num_blocks = 4, .num_exact = 5, .start_position = 63},
                            {.num_blocks = 4, .num_exact = 5, .start_position = 64},
                            {.num_blocks = 2, .num_exact = 90, .start_position = 150},
                            {.num_blocks = 70, .num_exact = 9, .start_position = 4488},
                            {.num_blocks = 9, .num_query_tokens = 7, .start_position = 569}},
               .seed = 3});
}

TEST_P(GpuAttendTest, SharpDistributions) {
  // Only a few tokens count: scores reach 30.
  ExpectRight({.codec = Codec(128),
               .num_kv_heads = 2,
               .group = 4,
               .sessions = {{.num_blocks = 100, .num_exact = 40}},
               .query_deviation = 4.0,
               .seed = 4});
}

TEST_P(GpuAttendTest, TheSameBitsAgainAndInAnyCompany) {
  const AttendSession session{.num_blocks = 45, .num_exact = 33, .num_query_tokens = 2};
  AttendCaseSpec spec{.codec = Codec(128), .num_kv_heads = 2, .group = 4, .sessions = {session}};
  AttendCase alone(spec);
  KVATTEND_CHECK_CUDA(alone.Launch(0, nullptr));
  KVATTEND_CHECK_CUDA(cudaDeviceSynchronize());
  const AttendRow expected = alone.Result(0, 1, 5);
  const std::vector<uint32_t> bits = alone.ResultBits();
  alone.Poison();
  KVATTEND_CHECK_CUDA(alone.Launch(0, nullptr));
  KVATTEND_CHECK_CUDA(cudaDeviceSynchronize());
  EXPECT_EQ(alone.ResultBits(), bits);

  // Queries and contents of the first session do not depend on the others.
  for (int i = 0; i < 30; ++i) {
    spec.sessions.push_back({.num_blocks = 3 * i, .num_exact = 10 + i});
  }
  AttendCase crowded(spec);
  KVATTEND_CHECK_CUDA(crowded.Launch(0, nullptr));
  KVATTEND_CHECK_CUDA(cudaDeviceSynchronize());
  const AttendRow found = crowded.Result(0, 1, 5);
  EXPECT_EQ(found.output, expected.output);
  EXPECT_EQ(found.lse, expected.lse);
}

std::vector<std::string> PresetNames() {
  std::vector<std::string> names;
  for (const CodecPreset& preset : CodecPresets()) names.emplace_back(preset.name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Presets, GpuAttendTest, ::testing::ValuesIn(PresetNames()),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace kvattend::testing
