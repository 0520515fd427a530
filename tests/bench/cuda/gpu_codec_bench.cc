// Times what writes the cache on the GPU: compressing long appends, by preset, and adding a token
// to each of many sessions. Verifies first.
//
// usage: gpu_codec_bench
#include <algorithm>
#include <cstdio>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/codec/block_layout.h"
#include "kernels/codec/reference_codec.h"
#include "kernels/cuda/compress.h"
#include "kernels/cuda/convert.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/pages.h"
#include "tests/support/random_tensors.h"

namespace kvattend::testing {
namespace {

constexpr int kHeads = 8;
constexpr int kHeadDim = 128;
// 8 sessions of 32,768 tokens: 1 GiB of keys and values, far more than the L2 holds.
constexpr int kBlocks = 8 * 32768 / kBlockTokens;
constexpr size_t kBlockValues = size_t{kBlockTokens} * kHeads * kHeadDim;

template <typename T>
cuda::DeviceBuffer ToDevice(const std::vector<T>& values) {
  cuda::DeviceBuffer buffer = cuda::DeviceBuffer::Create(values.size() * sizeof(T)).value();
  KVATTEND_CHECK(cudaMemcpy(buffer.data(), values.data(), buffer.size_bytes(), cudaMemcpyDefault) ==
                 cudaSuccess);
  return buffer;
}

// The median milliseconds of `launch`, which enqueues on the default stream.
template <typename Launch>
double MedianMs(int repeats, const Launch& launch) {
  std::vector<cudaEvent_t> events(static_cast<size_t>(repeats) + 1);
  for (cudaEvent_t& event : events) KVATTEND_CHECK(cudaEventCreate(&event) == cudaSuccess);
  for (int i = 0; i < 3; ++i) KVATTEND_CHECK(launch() == cudaSuccess);
  KVATTEND_CHECK(cudaEventRecord(events[0]) == cudaSuccess);
  for (size_t i = 1; i < events.size(); ++i) {
    KVATTEND_CHECK(launch() == cudaSuccess && cudaEventRecord(events[i]) == cudaSuccess);
  }
  KVATTEND_CHECK(cudaDeviceSynchronize() == cudaSuccess);
  std::vector<float> times(events.size() - 1);
  for (size_t i = 0; i < times.size(); ++i) {
    KVATTEND_CHECK(cudaEventElapsedTime(&times[i], events[i], events[i + 1]) == cudaSuccess);
  }
  for (cudaEvent_t event : events) cudaEventDestroy(event);
  std::nth_element(times.begin(), times.begin() + repeats / 2, times.end());
  return times[static_cast<size_t>(repeats) / 2];
}

// Whether block `block` of the arena holds what the reference makes of its tokens.
bool IsAsReference(const CodecSpec& codec, const cuda::DeviceBuffer& arena, uint64_t offset,
                   const uint16_t* keys, const uint16_t* values) {
  const cuda::BlockCodec block_codec = cuda::MakeBlockCodec(codec);
  const BlockLayout layout = MakeBlockLayout(codec);
  const cuda::DeviceBuffer blocks = ToDevice(std::vector<uint64_t>{offset});
  const cuda::DeviceBuffer canonical =
      cuda::DeviceBuffer::Create(kHeads * layout.head_bytes).value();
  KVATTEND_CHECK(cuda::LaunchReadBlocks({.codec = block_codec,
                                         .num_kv_heads = kHeads,
                                         .num_blocks = 1,
                                         .blocks = blocks.as<uint64_t>(),
                                         .arena = arena.as<uint8_t>(),
                                         .canonical = canonical.as<uint8_t>()},
                                        nullptr) == cudaSuccess);
  std::vector<uint8_t> got(canonical.size_bytes());
  KVATTEND_CHECK(cudaMemcpy(got.data(), canonical.data(), got.size(), cudaMemcpyDefault) ==
                 cudaSuccess);
  std::vector<uint8_t> want(got.size());
  std::vector<uint16_t> x(kBlockTokens * kHeadDim);
  for (int head = 0; head < kHeads; ++head) {
    for (const VectorRole role : {VectorRole::kKey, VectorRole::kValue}) {
      const uint16_t* const tensor = role == VectorRole::kKey ? keys : values;
      for (int t = 0; t < kBlockTokens; ++t) {
        std::copy_n(tensor + (t * kHeads + head) * kHeadDim, kHeadDim, x.begin() + t * kHeadDim);
      }
      EncodeReference(codec, role, x.data(),
                      want.data() + head * layout.head_bytes +
                          (role == VectorRole::kKey ? 0 : layout.keys.size_bytes));
    }
  }
  return got == want;
}

void TimeCompress() {
  // One random block of keys and of values, repeated: times do not depend on the numbers.
  const std::vector<uint16_t> keys = OutlierChannelTensor(1, kBlockValues, kHeadDim, 6, 8.0);
  const std::vector<uint16_t> values = GaussianTensor(2, kBlockValues);
  const cuda::DeviceBuffer device_keys =
      cuda::DeviceBuffer::Create(kBlocks * kBlockValues * 2).value();
  const cuda::DeviceBuffer device_values =
      cuda::DeviceBuffer::Create(kBlocks * kBlockValues * 2).value();
  for (size_t b = 0; b < kBlocks; ++b) {
    cudaMemcpyAsync(device_keys.as<uint16_t>() + b * kBlockValues, keys.data(), kBlockValues * 2,
                    cudaMemcpyDefault);
    cudaMemcpyAsync(device_values.as<uint16_t>() + b * kBlockValues, values.data(),
                    kBlockValues * 2, cudaMemcpyDefault);
  }
  const double input_bytes = 2.0 * kBlocks * kBlockValues * 2;
  std::printf("compress: %d blocks of 64 tokens, %d KV heads of %d\n", kBlocks, kHeads, kHeadDim);
  std::printf("  %-14s %9s %15s %15s\n", "preset", "ms", "TB/s of input", "GB/s of output");
  for (const CodecPreset& preset : CodecPresets()) {
    const CodecSpec codec = CodecFromPreset(preset.name, kHeadDim).value();
    const cuda::BlockCodec block_codec = cuda::MakeBlockCodec(codec);
    const size_t block_bytes = static_cast<size_t>(kHeads) * block_codec.gpu_head_bytes();
    const cuda::DeviceBuffer arena = cuda::DeviceBuffer::Create(kBlocks * block_bytes).value();
    std::vector<cuda::CompressJob> jobs(kBlocks);
    for (size_t b = 0; b < kBlocks; ++b) {
      jobs[b].block = b * block_bytes;
      jobs[b].keys = device_keys.as<uint16_t>() + b * kBlockValues;
      jobs[b].values = device_values.as<uint16_t>() + b * kBlockValues;
    }
    const cuda::DeviceBuffer device_jobs = ToDevice(jobs);
    const double ms = MedianMs(10, [&] {
      return cuda::LaunchCompress({.codec = block_codec,
                                   .num_kv_heads = kHeads,
                                   .num_jobs = kBlocks,
                                   .jobs = device_jobs.as<cuda::CompressJob>(),
                                   .arena = arena.as<uint8_t>()},
                                  nullptr);
    });
    const bool right =
        IsAsReference(codec, arena, (kBlocks - 1) * block_bytes, keys.data(), values.data());
    std::printf("  %-14s %9.3f %15.3f %15.1f%s\n", preset.name, ms, input_bytes / ms * 1e-9,
                static_cast<double>(kBlocks * block_bytes) / ms * 1e-6,
                right ? "" : "  WRONG BYTES");
  }
}

// One token more in each session, as a step of decoding does: tokens come from pinned memory.
void TimeOneToken(int num_sessions) {
  const size_t row = size_t{kHeads} * kHeadDim;
  const cuda::PinnedBuffer tokens = cuda::PinnedBuffer::Create(2 * num_sessions * row * 2).value();
  const std::vector<uint16_t> random = GaussianTensor(3, 2 * num_sessions * row);
  auto* const halves = reinterpret_cast<uint16_t*>(tokens.data());
  std::copy(random.begin(), random.end(), halves);
  const size_t page_bytes = kHeads * cuda::PageHeadBytes(kHeadDim);
  const cuda::DeviceBuffer arena = cuda::DeviceBuffer::Create(num_sessions * page_bytes).value();
  const cuda::PinnedBuffer pinned_jobs =
      cuda::PinnedBuffer::Create(num_sessions * sizeof(cuda::WritePageJob)).value();
  auto* const jobs = reinterpret_cast<cuda::WritePageJob*>(pinned_jobs.data());
  for (int s = 0; s < num_sessions; ++s) {
    jobs[s] = {.page = s * page_bytes,
               .keys = halves + 2 * s * row,
               .values = halves + (2 * s + 1) * row,
               .first_slot = s % kPageTokens,
               .num_tokens = 1};
  }
  const double ms = MedianMs(200, [&] {
    return cuda::LaunchWritePages({.head_dim = kHeadDim,
                                   .num_kv_heads = kHeads,
                                   .num_jobs = num_sessions,
                                   .jobs = jobs,
                                   .arena = arena.as<uint8_t>()},
                                  nullptr);
  });
  std::printf("one token more in %d sessions of %d KV heads, from pinned memory: %.1f us\n",
              num_sessions, kHeads, 1e3 * ms);
}

int Main() {
  const auto device = FindCudaDevice();
  if (!device.ok()) {
    std::printf("%s\n", std::string(device.status().message()).c_str());
    return 1;
  }
  std::printf("%s\n", device->name.c_str());
  TimeCompress();
  TimeOneToken(1);
  TimeOneToken(64);
  return 0;
}

}  // namespace
}  // namespace kvattend::testing

int main() { return kvattend::testing::Main(); }
