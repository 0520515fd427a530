#include "tests/support/block_inputs.h"

#include <cstddef>

#include "absl/strings/str_cat.h"
#include "tests/support/random_tensors.h"

namespace kvattend::testing {

std::vector<BlockInput> BlockInputs(uint64_t seed, int head_dim) {
  const size_t size = size_t{kBlockTokens} * head_dim;
  std::vector<BlockInput> inputs = {
      {"Gaussian", GaussianTensor(seed, size)},
      {"tiny Gaussian", GaussianTensor(seed + 1, size, 1e-6)},
      {"huge Gaussian", GaussianTensor(seed + 2, size, 3e4)},
      {"heavy-tailed", HeavyTailedTensor(seed + 3, size)},
      {"subnormal", SubnormalTensor(seed + 4, size)},
      {"random patterns", RandomPatternTensor(seed + 5, size)},
      {"tied", TiedTensor(seed + 6, size)},
      {"outlier channels", OutlierChannelTensor(seed + 7, size, head_dim, 6, 8.0)},
      {"zeros", ConstantTensor(size, 0.0f)},
      {"negative zeros", ConstantTensor(size, -0.0f)},
      {"constant", ConstantTensor(size, -0.7f)},
      {"largest", ConstantTensor(size, 65504.0f)},
      {"smallest", ConstantTensor(size, 0x1p-24f)},
  };
  // Zero but for one value a token, in ever other channels.
  BlockInput lonely = {"one value a token", ConstantTensor(size, 0.0f)};
  for (int token = 0; token < kBlockTokens; ++token) {
    const size_t channel = static_cast<size_t>(token * 37 % head_dim);
    lonely.x[static_cast<size_t>(token * head_dim) + channel] = inputs[0].x[channel];
  }
  inputs.push_back(lonely);
  return inputs;
}

std::vector<CodecSpec> AllPresetCodecs() {
  std::vector<CodecSpec> codecs;
  for (const CodecPreset& preset : CodecPresets()) {
    for (const int head_dim : {64, 128, 256}) {
      codecs.push_back(CodecFromPreset(preset.name, head_dim).value());
    }
  }
  return codecs;
}

std::vector<CodecSpec> RandomCodecs(uint64_t seed, int count) {
  RandomStream random(seed);
  const auto format = [&](int head_dim) {
    const int special[] = {1, head_dim - 1, head_dim};
    const int64_t choice = random.Integer(0, 9);
    const int kept = choice < 3 ? special[choice] : static_cast<int>(random.Integer(1, head_dim));
    return VectorFormat{.kept = kept, .bits = 2 << random.Integer(0, 3)};
  };
  std::vector<CodecSpec> codecs;
  for (int i = 0; i < count; ++i) {
    const int head_dim = 64 << random.Integer(0, 2);
    codecs.push_back({.head_dim = head_dim, .keys = format(head_dim), .values = format(head_dim)});
  }
  return codecs;
}

std::string Describe(const CodecSpec& codec) {
  return absl::StrCat("head_dim ", codec.head_dim, ", keys ", codec.keys.kept, " at ",
                      codec.keys.bits, ", values ", codec.values.kept, " at ", codec.values.bits);
}

}  // namespace kvattend::testing
