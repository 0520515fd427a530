// The bytes of every preset, pinned: blocks are exported and stored, so an encoder that starts to
// choose differently needs a new version of docs/formats.md, not a new number here.
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "kernels/base/half.h"
#include "kernels/codec/block_layout.h"
#include "kernels/codec/codec_spec.h"
#include "kernels/codec/reference_codec.h"
#include "tests/support/random_tensors.h"

namespace kvattend {
namespace {

// Roughly Gaussian, by integers alone, so that no mathematical library has a say in it. Every ninth
// channel is eight times larger.
std::vector<uint16_t> BellTensor(uint64_t seed, int head_dim) {
  testing::RandomStream random(seed);
  std::vector<uint16_t> tensor;
  for (int i = 0; i < kBlockTokens * head_dim; ++i) {
    int64_t sum = 0;
    for (int term = 0; term < 4; ++term) sum += random.Integer(-1000, 1000);
    if (i % head_dim % 9 == 0) sum *= 8;
    tensor.push_back(FloatToHalf(static_cast<float>(sum) / 1024.0f));
  }
  return tensor;
}

// FNV-1a, continued from `hash`.
uint64_t Hash(const std::vector<uint8_t>& bytes, uint64_t hash) {
  for (const uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001b3;
  return hash;
}

uint64_t HashOfPreset(const char* preset) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const int head_dim : {64, 128, 256}) {
    const CodecSpec codec = CodecFromPreset(preset, head_dim).value();
    for (const VectorRole role : {VectorRole::kKey, VectorRole::kValue}) {
      std::vector<uint8_t> part(MakeBlockLayout(codec).part(role).size_bytes);
      EncodeReference(codec, role, BellTensor(1, head_dim).data(), part.data());
      hash = Hash(part, hash);
      const auto extremes = testing::RandomPatternTensor(2, size_t{kBlockTokens} * head_dim);
      EncodeReference(codec, role, extremes.data(), part.data());
      hash = Hash(part, hash);
    }
  }
  return hash;
}

TEST(PinnedBytesTest, EveryPreset) {
  const std::map<std::string, uint64_t> expected = {
      {"balanced", 0x52887f6646793b2f},      {"lean", 0xa7c7944bd0818a16},
      {"fine", 0xcc7251c9c5afc406},          {"fp16", 0x0ca797962158b9b5},
      {"sparse50", 0xe3e963cdbfe0bb05},      {"sparse70", 0x273dc92b2e036485},
      {"sparse50-int4", 0x6362998b09327a5e}, {"sparse70-int4", 0x42495cf7b18a62f0},
      {"sparse50-int2", 0xc07ed6d00e656fce}, {"sparse70-int2", 0x6dbf4849e49d817d},
      {"int8", 0x0f6e7e0b35be54ee},          {"int4", 0x982cd68f1573de50},
      {"int2", 0x0a8dc7d8dd6155d3},
  };
  for (const CodecPreset& preset : CodecPresets()) {
    ASSERT_TRUE(expected.contains(preset.name)) << preset.name;
    EXPECT_EQ(HashOfPreset(preset.name), expected.at(preset.name))
        << preset.name << ": 0x" << std::hex << HashOfPreset(preset.name);
  }
}

}  // namespace
}  // namespace kvattend
