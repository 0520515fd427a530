// A device that fails: a program of its own, since the process cannot use it again.
#include <string>

#include "gtest/gtest.h"
#include "kernels/cuda/cuda_backend.h"

namespace kvattend::testing {
namespace {

TEST(GpuFaultTest, TheFirstFaultStays) {
  const auto device = FindCudaDevice();
  if (!device.ok()) GTEST_SKIP() << device.status().message();
  int num_faults = 0;
  const auto backend =
      CreateCudaBackend({.arena_bytes = 1 << 20,
                         .on_fault = [&num_faults](const absl::Status&) { ++num_faults; }})
          .value();
  EXPECT_TRUE(backend->health().ok());
  EXPECT_GT(backend->device_memory().total_bytes, 0u);
  const LayerShape shape{1, CodecFromPreset("balanced", 128).value()};
  const StagingBuffer staging = backend->AllocateStaging(1 << 16).value();
  const auto* const tokens = reinterpret_cast<const uint16_t*>(staging.get());
  EXPECT_TRUE(backend->Append({}, {{shape, 0, 0, 1, tokens, tokens}}).ok());

  // No request can do this: a page far beyond the arena.
  const uint64_t nowhere = uint64_t{1} << 60;
  const absl::Status fault = backend->Append({}, {{shape, nowhere, 0, 1, tokens, tokens}});
  EXPECT_EQ(fault.code(), absl::StatusCode::kUnavailable) << fault;
  EXPECT_EQ(fault.message().find("device fault: "), 0u) << fault;
  EXPECT_EQ(backend->health(), fault);
  EXPECT_EQ(num_faults, 1);

  // Everything else fails likewise, and the fault is not told again.
  EXPECT_EQ(backend->Append({}, {{shape, 0, 0, 1, tokens, tokens}}), fault);
  EXPECT_EQ(backend->CopyPages({{shape, 0, 16384, 1}}), fault);
  EXPECT_EQ(backend->DecompressTiles({}).status(), fault);
  EXPECT_EQ(num_faults, 1);
}

}  // namespace
}  // namespace kvattend::testing
