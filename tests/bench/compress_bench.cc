// How fast one core encodes and decodes blocks, beside copying the same bytes, and converts at the
// border. GB/s count the float16 bytes of the keys or values, whatever is written.
//
// Every codec's bytes and values are compared with the scalar reference before it is timed.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/codec/block_layout.h"
#include "kernels/codec/codec_spec.h"
#include "kernels/codec/reference_codec.h"
#include "kernels/cpu/decode.h"
#include "kernels/cpu/encode.h"
#include "kernels/cpu/entry.h"
#include "tests/support/random_tensors.h"

namespace kvattend {
namespace {

constexpr int kHeadDim = 128;
constexpr size_t kPartValues = size_t{kBlockTokens} * kHeadDim;
// 2 MiB of input: what a core works on lies in its L2 cache at most, as after the border's copy.
constexpr int kNumParts = 128;

constexpr VectorRole kRoles[] = {VectorRole::kKey, VectorRole::kValue};

void CountInput(benchmark::State& state) {
  const auto bytes = static_cast<double>(state.iterations()) * kNumParts * kPartValues * 2;
  state.counters["GB/s"] = benchmark::Counter(bytes / 1e9, benchmark::Counter::kIsRate);
}

const std::vector<uint16_t>& Input() {
  static const auto& input =
      *new std::vector<uint16_t>(testing::GaussianTensor(1, kNumParts * kPartValues));
  return input;
}

void Check(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "%s differs from the reference\n", what);
  std::exit(1);
}

void VerifyPart(const CodecSpec& codec, VectorRole role) {
  const size_t size = MakeBlockLayout(codec).part(role).size_bytes;
  std::vector<uint8_t> expected(size);
  std::vector<uint8_t> part(size);
  EncodeReference(codec, role, Input().data(), expected.data());
  EncodePart(codec, role, Input().data(), part.data());
  Check(part == expected, "an encoded part");
  std::vector<float> expected_values(kPartValues);
  std::vector<float> values(kPartValues);
  DecodeReference(codec, role, part.data(), expected_values.data());
  DecodePart(codec, role, part.data(), values.data());
  Check(values == expected_values, "a decoded part");
}

void BenchEncode(benchmark::State& state, const CodecSpec& codec, VectorRole role) {
  VerifyPart(codec, role);
  const size_t size = MakeBlockLayout(codec).part(role).size_bytes;
  std::vector<uint8_t> parts(kNumParts * size);
  for (auto _ : state) {
    for (int i = 0; i < kNumParts; ++i) {
      EncodePart(codec, role, Input().data() + i * kPartValues, parts.data() + i * size);
    }
    benchmark::ClobberMemory();
  }
  CountInput(state);
}

void BenchDecode(benchmark::State& state, const CodecSpec& codec, VectorRole role) {
  VerifyPart(codec, role);
  const size_t size = MakeBlockLayout(codec).part(role).size_bytes;
  std::vector<uint8_t> parts(kNumParts * size);
  for (int i = 0; i < kNumParts; ++i) {
    EncodePart(codec, role, Input().data() + i * kPartValues, parts.data() + i * size);
  }
  std::vector<float> values(kPartValues);
  for (auto _ : state) {
    for (int i = 0; i < kNumParts; ++i) {
      DecodePart(codec, role, parts.data() + i * size, values.data());
    }
    benchmark::ClobberMemory();
  }
  CountInput(state);
}

void BenchEntry(benchmark::State& state, FloatType type) {
  std::vector<uint8_t> source(kNumParts * kPartValues * FloatTypeBytes(type));
  std::vector<float> values = testing::ToFloats(Input());
  ConvertFromFloat(type, values.data(), values.size(), source.data());
  std::vector<uint16_t> halves(values.size());
  for (auto _ : state) {
    Check(!ConvertToHalf(type, source.data(), halves.size(), halves.data()), "a converted tensor");
    benchmark::ClobberMemory();
  }
  CountInput(state);
}

void BenchMemcpy(benchmark::State& state) {
  std::vector<uint16_t> copy(Input().size());
  for (auto _ : state) {
    std::memcpy(copy.data(), Input().data(), copy.size() * sizeof(uint16_t));
    benchmark::ClobberMemory();
  }
  CountInput(state);
}

void RegisterAll() {
  benchmark::RegisterBenchmark("memcpy", BenchMemcpy);
  benchmark::RegisterBenchmark("entry/float16", BenchEntry, FloatType::kFloat16);
  benchmark::RegisterBenchmark("entry/bfloat16", BenchEntry, FloatType::kBfloat16);
  benchmark::RegisterBenchmark("entry/float32", BenchEntry, FloatType::kFloat32);
  for (const CodecPreset& preset : CodecPresets()) {
    const CodecSpec codec = CodecFromPreset(preset.name, kHeadDim).value();
    for (const VectorRole role : kRoles) {
      const std::string suffix =
          std::string(preset.name) + (role == VectorRole::kKey ? "/keys" : "/values");
      benchmark::RegisterBenchmark(("encode/" + suffix).c_str(), BenchEncode, codec, role);
      benchmark::RegisterBenchmark(("decode/" + suffix).c_str(), BenchDecode, codec, role);
    }
  }
}

}  // namespace
}  // namespace kvattend

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  kvattend::RegisterAll();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
