// Attention over compressed blocks, verified and timed: gpu_attend_bench [preset ...].
//
// Prints a CSV line for each preset and shape: preset, batch, tokens, query heads, KV heads, median
// milliseconds, GB/s of compressed bytes, worst error against float64. sdpa_bench.py times dense
// attention.
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "tests/bench/cuda/spin.h"
#include "tests/gpu/attend_case.h"

namespace {

using kvattend::testing::AttendCase;
using kvattend::testing::AttendCaseSpec;

struct Shape {
  int batch;
  int tokens;
  int num_query_heads;
  int num_kv_heads;
};

constexpr Shape kShapes[] = {
    {8, 32768, 32, 8}, {8, 4096, 32, 8},  {1, 131072, 32, 8}, {32, 8192, 32, 8},
    {8, 32768, 8, 8},  {32, 4096, 32, 8}, {1, 8192, 32, 8},   {64, 2048, 64, 8},
};

// Above this the benchmark stops: the tolerance of the project.
constexpr double kTolerance = 2e-3;

double MedianMilliseconds(AttendCase& attend, int rotations) {
  constexpr int kWarmUps = 3;
  constexpr int kRuns = 21;
  cudaEvent_t begin, end;
  KVATTEND_CHECK_CUDA(cudaEventCreate(&begin));
  KVATTEND_CHECK_CUDA(cudaEventCreate(&end));
  std::vector<float> times;
  for (int i = 0; i < kWarmUps + kRuns; ++i) {
    KVATTEND_CHECK_CUDA(kvattend::bench::LaunchSpin(nullptr));
    KVATTEND_CHECK_CUDA(cudaEventRecord(begin));
    KVATTEND_CHECK_CUDA(attend.Launch(i % rotations, nullptr));
    KVATTEND_CHECK_CUDA(cudaEventRecord(end));
    KVATTEND_CHECK_CUDA(cudaEventSynchronize(end));
    float milliseconds = 0.0f;
    KVATTEND_CHECK_CUDA(cudaEventElapsedTime(&milliseconds, begin, end));
    if (i >= kWarmUps) times.push_back(milliseconds);
  }
  KVATTEND_CHECK_CUDA(cudaEventDestroy(begin));
  KVATTEND_CHECK_CUDA(cudaEventDestroy(end));
  std::nth_element(times.begin(), times.begin() + kRuns / 2, times.end());
  return times[kRuns / 2];
}

// False where the result is wrong.
bool Measure(const std::string& preset, const Shape& shape) {
  const int rotations = 3;
  AttendCaseSpec spec{.codec = kvattend::CodecFromPreset(preset, 128).value(),
                      .num_kv_heads = shape.num_kv_heads,
                      .group = shape.num_query_heads / shape.num_kv_heads,
                      .distinct_blocks = 6,
                      .query_deviation = 2.0,
                      .rotations = rotations};
  for (int i = 0; i < shape.batch; ++i) {
    spec.sessions.push_back({.num_blocks = shape.tokens / kvattend::kBlockTokens});
  }
  AttendCase attend(spec);
  attend.Poison();
  KVATTEND_CHECK_CUDA(attend.Launch(0, nullptr));
  KVATTEND_CHECK_CUDA(cudaDeviceSynchronize());
  std::string where;
  const double error = attend.WorstError(shape.batch * shape.num_query_heads / 3 + 1, &where);
  const double milliseconds = MedianMilliseconds(attend, rotations);
  std::printf("%s,%d,%d,%d,%d,%.4f,%.0f,%.2e\n", preset.c_str(), shape.batch, shape.tokens,
              shape.num_query_heads, shape.num_kv_heads, milliseconds,
              static_cast<double>(attend.block_bytes()) / milliseconds / 1e6, error);
  std::fflush(stdout);
  if (error <= kTolerance) return true;
  std::fprintf(stderr, "wrong: %s\n", where.c_str());
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> presets(argv + 1, argv + argc);
  // "-1" measures the first shape only.
  const bool first_only = !presets.empty() && presets[0] == "-1";
  if (first_only) presets.erase(presets.begin());
  if (presets.empty()) {
    for (const auto& preset : kvattend::CodecPresets()) presets.push_back(preset.name);
  }
  bool is_right = true;
  for (const std::string& preset : presets) {
    for (const Shape& shape : kShapes) {
      is_right = Measure(preset, shape) && is_right;
      if (first_only) break;
    }
  }
  return is_right ? 0 : 1;
}
