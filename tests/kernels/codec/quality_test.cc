// The codec's error on synthetic vectors. The limits are the project's requirements.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "kernels/codec/block_layout.h"
#include "kernels/codec/codec_spec.h"
#include "kernels/codec/reference_codec.h"
#include "tests/support/random_tensors.h"

namespace kvattend {
namespace {

constexpr int kHeadDim = 128;
constexpr int kBlocks = 40;
constexpr size_t kBlockSize = size_t{kBlockTokens} * kHeadDim;

// Squared error of coding `x` (whole blocks) over the sum of squares. With `role` kValue keys' data
// is coded without the equaliser, in the keys' format.
double NormalisedError(const char* preset, VectorRole role, const std::vector<uint16_t>& x) {
  const CodecSpec codec = CodecFromPreset(preset, kHeadDim).value();
  EXPECT_EQ(codec.keys, codec.values) << "the presets measured here code both alike";
  const BlockLayout layout = MakeBlockLayout(codec);
  std::vector<uint8_t> part(layout.keys.size_bytes);
  std::vector<float> decoded(kBlockSize);
  const std::vector<float> exact = testing::ToFloats(x);
  double error = 0.0;
  double energy = 0.0;
  for (size_t begin = 0; begin < x.size(); begin += kBlockSize) {
    EncodeReference(codec, role, x.data() + begin, part.data());
    DecodeReference(codec, role, part.data(), decoded.data());
    for (size_t i = 0; i < kBlockSize; ++i) {
      const double difference = static_cast<double>(decoded[i]) - exact[begin + i];
      error += difference * difference;
      energy += static_cast<double>(exact[begin + i]) * exact[begin + i];
    }
  }
  return error / energy;
}

struct Limit {
  const char* preset;
  double error;
};

TEST(CodecQualityTest, GaussianVectors) {
  const std::vector<uint16_t> x = testing::GaussianTensor(1, kBlocks * kBlockSize);
  for (const auto& [preset, limit] : {Limit{"sparse70", 0.225},
                                      {"sparse70-int2", 0.255},
                                      {"sparse50-int2", 0.125},
                                      {"int4", 0.0125},
                                      {"int8", 1.2e-4}}) {
    for (const VectorRole role : {VectorRole::kKey, VectorRole::kValue}) {
      const double error = NormalisedError(preset, role, x);
      EXPECT_LE(error, limit) << preset;
      // Far better than the limit would mean that something else was measured.
      EXPECT_GE(error, limit / 4) << preset;
    }
  }
}

TEST(CodecQualityTest, KeysWithOutlierChannelsNeedTheEqualiser) {
  const std::vector<uint16_t> x =
      testing::OutlierChannelTensor(2, kBlocks * kBlockSize, kHeadDim, 6, 8.0);
  struct Expectation {
    const char* preset;
    double with_equaliser_at_most;
    double without_at_least;
  };
  for (const auto& [preset, at_most, at_least] : {Expectation{"sparse70-int2", 0.36, 0.44},
                                                  {"sparse50-int2", 0.18, 0.40},
                                                  {"int2", 0.12, 0.42}}) {
    const double with = NormalisedError(preset, VectorRole::kKey, x);
    const double without = NormalisedError(preset, VectorRole::kValue, x);
    EXPECT_LE(with, at_most) << preset;
    EXPECT_GE(without, at_least) << preset;
  }
}

TEST(CodecQualityTest, SixteenBitsOfAllChannelsAreExact) {
  const std::vector<uint16_t> x = testing::GaussianTensor(3, kBlockSize);
  EXPECT_EQ(NormalisedError("fp16", VectorRole::kKey, x), 0.0);
}

}  // namespace
}  // namespace kvattend
