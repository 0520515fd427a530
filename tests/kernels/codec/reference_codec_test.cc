// Properties of the reference codec that hold for every format and input.
#include "kernels/codec/reference_codec.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/half.h"
#include "kernels/codec/block_layout.h"
#include "kernels/codec/block_part.h"
#include "kernels/codec/quantiser.h"
#include "tests/support/random_tensors.h"

namespace kvattend {
namespace {

constexpr VectorRole kRoles[] = {VectorRole::kKey, VectorRole::kValue};
constexpr uint8_t kPoison = 0xa5;

std::vector<uint8_t> Encode(const CodecSpec& codec, VectorRole role,
                            const std::vector<uint16_t>& x) {
  const size_t size = MakeBlockLayout(codec).part(role).size_bytes;
  std::vector<uint8_t> part(size + 16, kPoison);
  EncodeReference(codec, role, x.data(), part.data());
  EXPECT_TRUE(std::all_of(part.begin() + static_cast<ptrdiff_t>(size), part.end(),
                          [](uint8_t byte) { return byte == kPoison; }))
      << "wrote past the part";
  part.resize(size);
  return part;
}

std::vector<float> Decode(const CodecSpec& codec, VectorRole role,
                          const std::vector<uint8_t>& part) {
  std::vector<float> x(static_cast<size_t>(kBlockTokens) * codec.head_dim,
                       std::numeric_limits<float>::quiet_NaN());
  DecodeReference(codec, role, part.data(), x.data());
  return x;
}

// A channel is kept if fewer than `kept` others beat it.
bool IsKept(const uint16_t* token, int head_dim, int channel, int kept) {
  const int magnitude = token[channel] & 0x7fff;
  int better = 0;
  for (int c = 0; c < head_dim; ++c) {
    const int other = token[c] & 0x7fff;
    if (other > magnitude || (other == magnitude && c < channel)) ++better;
  }
  return better < kept;
}

// All values that a code can stand for.
std::vector<double> Levels(const PartShape& shape) {
  if (shape.format.bits == 2) {
    const double ratio = TwoBitMagnitudeRatio(shape.format, shape.head_dim);
    return {-ratio, -1.0, 1.0, ratio};
  }
  std::vector<double> levels;
  const int num_levels = 1 << shape.format.bits;
  for (int u = 0; u < num_levels; ++u) levels.push_back(u - (num_levels - 1) / 2.0);
  return levels;
}

// `decoded` must be the level nearest to `x`; a little slack for the rounding of x / s.
void ExpectNearestLevel(const std::vector<double>& levels, double x, double decoded, double unit) {
  double best = std::numeric_limits<double>::infinity();
  for (const double level : levels) best = std::min(best, std::abs(x - level * unit));
  EXPECT_LE(std::abs(x - decoded), best + 1e-4 * unit + 1e-6 * std::abs(x)) << x << " " << unit;
}

// Everything that must hold of a coded block.
void CheckBlock(const CodecSpec& codec, VectorRole role, const std::vector<uint16_t>& x) {
  const PartShape shape(codec, role);
  const std::vector<uint8_t> part = Encode(codec, role, x);
  EXPECT_EQ(part, Encode(codec, role, x)) << "not deterministic";
  ASSERT_TRUE(ValidateBlockPart(codec, role, part.data()).ok());
  const std::vector<float> decoded = Decode(codec, role, part);
  const std::vector<double> levels = Levels(shape);
  for (int t = 0; t < kBlockTokens; ++t) {
    const uint16_t* token = x.data() + t * codec.head_dim;
    const ChannelMask mask = LoadMask(shape, part.data(), t);
    for (int c = 0; c < codec.head_dim; ++c) {
      const bool kept = IsKept(token, codec.head_dim, c, shape.format.kept);
      const float value = decoded[static_cast<size_t>(t) * codec.head_dim + c];
      ASSERT_EQ(mask[c], kept) << "token " << t << " channel " << c;
      ASSERT_TRUE(std::isfinite(value));
      if (!kept) {
        ASSERT_EQ(value, 0.0f);
      } else if (shape.format.bits == 16) {
        ASSERT_EQ(FloatToHalf(value), token[c]);
      } else {
        const double unit = HalfToFloat(LoadScale(shape, part.data(), t)) *
                            std::exp2(LoadExponent(shape, part.data(), c) / 2.0);
        ExpectNearestLevel(unit == 0.0 ? std::vector<double>{0.0} : levels, HalfToFloat(token[c]),
                           value, unit);
      }
    }
  }
}

std::vector<std::pair<std::string, std::vector<uint16_t>>> Inputs(uint64_t seed, int head_dim) {
  const size_t size = static_cast<size_t>(kBlockTokens) * head_dim;
  return {{"gaussian", testing::GaussianTensor(seed, size)},
          {"outliers", testing::OutlierChannelTensor(seed, size, head_dim, 6, 8.0)},
          {"heavy tails", testing::HeavyTailedTensor(seed, size)},
          {"any pattern", testing::RandomPatternTensor(seed, size)},
          {"subnormal", testing::SubnormalTensor(seed, size)},
          {"tied", testing::TiedTensor(seed, size)},
          {"zero", testing::ConstantTensor(size, 0.0f)},
          {"negative zero", testing::ConstantTensor(size, -0.0f)},
          {"constant", testing::ConstantTensor(size, -3.14f)},
          {"largest", testing::ConstantTensor(size, kMaxHalf)},
          {"smallest", testing::ConstantTensor(size, 0x1p-24f)}};
}

class EveryPreset : public ::testing::TestWithParam<int> {};

TEST_P(EveryPreset, HoldsItsPropertiesOnEveryInput) {
  const int head_dim = GetParam();
  for (const CodecPreset& preset : CodecPresets()) {
    const CodecSpec codec = CodecFromPreset(preset.name, head_dim).value();
    for (const auto& [name, x] : Inputs(1, head_dim)) {
      for (const VectorRole role : kRoles) {
        SCOPED_TRACE(absl::StrCat(preset.name, ", ", name, ", role ", static_cast<int>(role)));
        CheckBlock(codec, role, x);
        if (HasFatalFailure()) return;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(HeadDims, EveryPreset, ::testing::Values(64, 128, 256));

TEST(ReferenceCodecTest, AnyKeptAndBits) {
  testing::RandomStream random(7);
  for (int i = 0; i < 120; ++i) {
    const int head_dim = 64 << random.Integer(0, 2);
    const int bits = 2 << random.Integer(0, 3);
    // The ends, then anything, odd numbers (whose rows of codes straddle bytes) among them.
    const int kept = i % 6 == 0   ? 1
                     : i % 6 == 1 ? head_dim
                                  : static_cast<int>(random.Integer(1, head_dim));
    const CodecSpec codec = {head_dim, {kept, bits}, {kept, bits}};
    const auto inputs = Inputs(random.Next(), head_dim);
    const auto& [name, x] = inputs[static_cast<size_t>(i) % inputs.size()];
    for (const VectorRole role : kRoles) {
      SCOPED_TRACE(absl::StrCat(kept, " of ", head_dim, " at ", bits, ", ", name));
      CheckBlock(codec, role, x);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(ReferenceCodecTest, ZerosDecodeToZeros) {
  for (const CodecPreset& preset : CodecPresets()) {
    const CodecSpec codec = CodecFromPreset(preset.name, 64).value();
    for (const float zero : {0.0f, -0.0f}) {
      const auto x = testing::ConstantTensor(size_t{kBlockTokens} * 64, zero);
      for (const VectorRole role : kRoles) {
        for (const float value : Decode(codec, role, Encode(codec, role, x))) {
          ASSERT_EQ(value, 0.0f) << preset.name;
        }
      }
    }
  }
}

TEST(ReferenceCodecTest, ScalesBelowHalfTheSmallestFloat16BecomeZero) {
  // Values of 2^-24 at 8 bits want a scale of 2^-24 / 127.5.
  const CodecSpec codec = CodecFromPreset("int8", 64).value();
  const auto x = testing::ConstantTensor(size_t{kBlockTokens} * 64, 0x1p-24f);
  const std::vector<uint8_t> values = Encode(codec, VectorRole::kValue, x);
  EXPECT_TRUE(std::all_of(values.begin(), values.end(), [](uint8_t byte) { return byte == 0; }));
  // As keys they are equalised first, and come back almost exactly.
  for (const float value : Decode(codec, VectorRole::kKey, Encode(codec, VectorRole::kKey, x))) {
    ASSERT_NEAR(value, 0x1p-24, 0x1p-24 * 1e-3);
  }
}

TEST(ReferenceCodecTest, ConstantVectorsKeepTheirValueAtTwoBits) {
  const CodecSpec codec = CodecFromPreset("sparse50-int2", 64).value();
  const auto x = testing::ConstantTensor(size_t{kBlockTokens} * 64, -1.5f);
  const std::vector<float> decoded =
      Decode(codec, VectorRole::kValue, Encode(codec, VectorRole::kValue, x));
  for (int t = 0; t < kBlockTokens; ++t) {
    for (int c = 0; c < 64; ++c) ASSERT_EQ(decoded[t * 64 + c], c < 32 ? -1.5f : 0.0f);
  }
}

TEST(ReferenceCodecTest, ValuesOfOneTokenDoNotTouchAnother) {
  const CodecSpec codec = CodecFromPreset("balanced", 64).value();
  std::vector<uint16_t> x = testing::GaussianTensor(5, size_t{kBlockTokens} * 64);
  const auto before = Decode(codec, VectorRole::kValue, Encode(codec, VectorRole::kValue, x));
  for (int c = 0; c < 64; ++c) x[20 * 64 + c] = kMaxHalfBits;
  const auto after = Decode(codec, VectorRole::kValue, Encode(codec, VectorRole::kValue, x));
  for (size_t i = 0; i < x.size(); ++i) {
    if (i / 64 == 20) continue;
    ASSERT_EQ(before[i], after[i]);
  }
}

}  // namespace
}  // namespace kvattend
