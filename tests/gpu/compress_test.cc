// Blocks as the GPU packs them and pages as it writes them, against the scalar reference.
#include "kernels/cuda/compress.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/codec/block_layout.h"
#include "kernels/codec/reference_codec.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/pages.h"
#include "tests/gpu/gpu_layout_reference.h"
#include "tests/support/block_inputs.h"
#include "tests/support/random_tensors.h"

namespace kvattend::testing {
namespace {

using cuda::DeviceBuffer;

constexpr int kHeads = 3;

class GpuCompressTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto device = FindCudaDevice();
    if (!device.ok()) GTEST_SKIP() << device.status().message();
  }
};

template <typename T>
DeviceBuffer ToDevice(const std::vector<T>& values) {
  DeviceBuffer buffer = DeviceBuffer::Create(values.size() * sizeof(T)).value();
  EXPECT_EQ(cudaMemcpy(buffer.data(), values.data(), buffer.size_bytes(), cudaMemcpyDefault),
            cudaSuccess);
  return buffer;
}

std::vector<uint8_t> ToHost(const DeviceBuffer& buffer) {
  std::vector<uint8_t> bytes(buffer.size_bytes());
  EXPECT_EQ(cudaMemcpy(bytes.data(), buffer.data(), bytes.size(), cudaMemcpyDefault), cudaSuccess);
  return bytes;
}

// Tensors [64, kHeads, head_dim] of inputs [64, head_dim], head h having input (first + h) % size.
std::vector<uint16_t> Interleave(const std::vector<BlockInput>& inputs, size_t first,
                                 int head_dim) {
  std::vector<uint16_t> tensor(static_cast<size_t>(kBlockTokens * kHeads * head_dim));
  for (int head = 0; head < kHeads; ++head) {
    const std::vector<uint16_t>& x = inputs[(first + head) % inputs.size()].x;
    for (int t = 0; t < kBlockTokens; ++t) {
      std::copy_n(x.begin() + t * head_dim, head_dim,
                  tensor.begin() + (t * kHeads + head) * head_dim);
    }
  }
  return tensor;
}

std::vector<uint8_t> ReferencePart(const CodecSpec& codec, VectorRole role,
                                   const std::vector<uint16_t>& x) {
  std::vector<uint8_t> canonical(MakeBlockLayout(codec).part(role).size_bytes);
  EncodeReference(codec, role, x.data(), canonical.data());
  return ToGpuPart(codec, role, canonical.data());
}

// Every input as keys and as values of some block, all blocks in one launch.
void CompressAndCompare(const CodecSpec& codec) {
  const std::vector<BlockInput> inputs = BlockInputs(1, codec.head_dim);
  const size_t num_jobs = inputs.size();
  const cuda::BlockCodec block_codec = cuda::MakeBlockCodec(codec);
  const size_t block_bytes = static_cast<size_t>(kHeads * block_codec.gpu_head_bytes());
  DeviceBuffer arena = ToDevice(std::vector<uint8_t>(num_jobs * block_bytes, 0xa5));
  std::vector<DeviceBuffer> tensors;
  std::vector<cuda::CompressJob> jobs(num_jobs);
  for (size_t i = 0; i < num_jobs; ++i) {
    tensors.push_back(ToDevice(Interleave(inputs, i, codec.head_dim)));
    jobs[i].block = i * block_bytes;
    jobs[i].keys = tensors.back().as<uint16_t>();
    // Block i's values are block i - 1's keys.
    jobs[(i + 1) % num_jobs].values = jobs[i].keys;
  }
  const DeviceBuffer device_jobs = ToDevice(jobs);
  ASSERT_EQ(cuda::LaunchCompress({.codec = block_codec,
                                  .num_kv_heads = kHeads,
                                  .num_jobs = static_cast<int>(num_jobs),
                                  .jobs = device_jobs.as<cuda::CompressJob>(),
                                  .arena = arena.as<uint8_t>()},
                                 nullptr),
            cudaSuccess);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  const std::vector<uint8_t> got = ToHost(arena);
  std::vector<std::vector<uint8_t>> keys;
  std::vector<std::vector<uint8_t>> values;
  for (const BlockInput& input : inputs) {
    keys.push_back(ReferencePart(codec, VectorRole::kKey, input.x));
    values.push_back(ReferencePart(codec, VectorRole::kValue, input.x));
  }
  auto at = got.begin();
  for (size_t i = 0; i < num_jobs; ++i) {
    for (int head = 0; head < kHeads; ++head) {
      for (const bool is_key : {true, false}) {
        const size_t input = (i + num_jobs + head - (is_key ? 0 : 1)) % num_jobs;
        const std::vector<uint8_t>& want = is_key ? keys[input] : values[input];
        const auto [want_at, got_at] = std::mismatch(want.begin(), want.end(), at);
        ASSERT_EQ(want_at, want.end())
            << (is_key ? "keys" : "values") << " of " << inputs[input].name << ", byte "
            << want_at - want.begin() << " of " << want.size() << ": " << int{*got_at}
            << " instead of " << int{*want_at};
        at += static_cast<std::ptrdiff_t>(want.size());
      }
    }
  }
}

TEST_F(GpuCompressTest, GivesTheReferenceBytes) {
  std::vector<CodecSpec> codecs = AllPresetCodecs();
  for (const CodecSpec& codec : RandomCodecs(3, 40)) codecs.push_back(codec);
  for (const CodecSpec& codec : codecs) {
    SCOPED_TRACE(Describe(codec));
    CompressAndCompare(codec);
    if (HasFatalFailure()) return;
  }
}

TEST_F(GpuCompressTest, PagesAreAsTheLayoutSays) {
  for (const int head_dim : {64, 128, 256}) {
    SCOPED_TRACE(head_dim);
    const size_t size = static_cast<size_t>(kPageTokens * kHeads * head_dim);
    const std::vector<uint16_t> keys = RandomPatternTensor(1, size);
    const std::vector<uint16_t> values = RandomPatternTensor(2, size);
    const DeviceBuffer device_keys = ToDevice(keys);
    const DeviceBuffer device_values = ToDevice(values);
    // As the reference has what is not written: NaN.
    DeviceBuffer arena = ToDevice(std::vector<uint16_t>(2 * size, 0x7fff));
    // 13 tokens in two pieces.
    const size_t row_size = static_cast<size_t>(kHeads * head_dim);
    const DeviceBuffer jobs = ToDevice(std::vector<cuda::WritePageJob>{
        {0, device_keys.as<uint16_t>(), device_values.as<uint16_t>(), 0, 3},
        {0, device_keys.as<uint16_t>() + 3 * row_size, device_values.as<uint16_t>() + 3 * row_size,
         3, 10}});
    ASSERT_EQ(cuda::LaunchWritePages({.head_dim = head_dim,
                                      .num_kv_heads = kHeads,
                                      .num_jobs = 2,
                                      .jobs = jobs.as<cuda::WritePageJob>(),
                                      .arena = arena.as<uint8_t>()},
                                     nullptr),
              cudaSuccess);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    std::vector<uint16_t> want;
    for (int head = 0; head < kHeads; ++head) {
      std::vector<uint16_t> head_keys;
      std::vector<uint16_t> head_values;
      for (int t = 0; t < 13; ++t) {
        const auto row = static_cast<std::ptrdiff_t>((t * kHeads + head) * head_dim);
        head_keys.insert(head_keys.end(), keys.begin() + row, keys.begin() + row + head_dim);
        head_values.insert(head_values.end(), values.begin() + row,
                           values.begin() + row + head_dim);
      }
      const std::vector<uint16_t> page =
          ToGpuPage(head_dim, 13, head_keys.data(), head_values.data());
      want.insert(want.end(), page.begin(), page.end());
    }
    const std::vector<uint8_t> bytes = ToHost(arena);
    std::vector<uint16_t> got(bytes.size() / 2);
    std::memcpy(got.data(), bytes.data(), bytes.size());
    EXPECT_EQ(got, want);
  }
}

}  // namespace
}  // namespace kvattend::testing
