// The bytes of blocks, by hand: bit order, decoding and what the encoder chooses, as
// docs/formats.md states them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/base/half.h"
#include "kernels/codec/block_layout.h"
#include "kernels/codec/reference_codec.h"
#include "tests/support/random_tensors.h"

namespace kvattend {
namespace {

using ::testing::ElementsAre;

constexpr int kHeadDim = 64;
constexpr size_t kTokens = kBlockTokens;

std::vector<float> Decode(const CodecSpec& codec, VectorRole role,
                          const std::vector<uint8_t>& part) {
  std::vector<float> x(kTokens * codec.head_dim, NAN);
  DecodeReference(codec, role, part.data(), x.data());
  return x;
}

std::vector<uint8_t> Encode(const CodecSpec& codec, VectorRole role,
                            const std::vector<uint16_t>& x) {
  std::vector<uint8_t> part(MakeBlockLayout(codec).part(role).size_bytes, 0xff);
  EncodeReference(codec, role, x.data(), part.data());
  return part;
}

// Sparse 2-bit keys, three of 64 channels: the second token's codes begin in the first byte.
class SparseTwoBitKeys : public ::testing::Test {
 protected:
  SparseTwoBitKeys() : part_(kTokens * 8 + 64 + 128 + kTokens * 3 * 2 / 8, 0) {
    // Every token keeps channels 0, 9 and 63.
    for (size_t t = 0; t < kTokens; ++t) {
      part_[8 * t] = 0x01;
      part_[8 * t + 1] = 0x02;
      part_[8 * t + 7] = 0x80;
    }
    part_[kExponents + 9] = 2;                          // twice as large
    part_[kExponents + 63] = static_cast<uint8_t>(-3);  // 2^-1.5
    part_[kScales] = 0x00;                              // token 0: 0x3c00 = 1
    part_[kScales + 1] = 0x3c;
    part_[kScales + 2] = 0x00;  // token 1: 0x4200 = 3
    part_[kScales + 3] = 0x42;
    // Codes from the lowest bits up: token 0: 0 (+1), 1 (+r), 2 (-1); token 1: 3 (-r), 0, 1.
    part_[kCodes] = 0b11'10'01'00;
    part_[kCodes + 1] = 0b00'00'01'00;
  }

  static constexpr size_t kExponents = kTokens * 8;
  static constexpr size_t kScales = kExponents + 64;
  static constexpr size_t kCodes = kScales + 128;
  const CodecSpec codec_{kHeadDim, {3, 2}, {3, 2}};
  std::vector<uint8_t> part_;
};

TEST_F(SparseTwoBitKeys, DecodeInBitOrder) {
  ASSERT_EQ(MakeBlockLayout(codec_).keys.size_bytes, part_.size());
  ASSERT_TRUE(ValidateBlockPart(codec_, VectorRole::kKey, part_.data()).ok());
  const std::vector<float> x = Decode(codec_, VectorRole::kKey, part_);
  const float root_half = 0x1.6a09e6p-1f;
  EXPECT_EQ(x[0], 1.0f);
  EXPECT_EQ(x[9], 1.5f * 2.0f);
  EXPECT_EQ(x[63], -0.5f * root_half);
  EXPECT_EQ(x[64 + 0], -1.5f * 3.0f);
  EXPECT_EQ(x[64 + 9], 3.0f * 2.0f);
  EXPECT_EQ(x[64 + 63], 4.5f * (0.5f * root_half));
  // The other channels, and the tokens with scale 0.
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t c = i % 64;
    if (i < 128 && (c == 0 || c == 9 || c == 63)) continue;
    EXPECT_EQ(x[i], 0.0f) << i;
  }
}

TEST(BitstreamTest, DecodeUniformCodes) {
  // Dense values: no bitmaps, no exponents; scales, then codes.
  const CodecSpec four_bits{kHeadDim, {64, 4}, {64, 4}};
  std::vector<uint8_t> part(128 + kTokens * 32, 0);
  part[1] = 0x40;  // token 0: 0x4000 = 2
  part[128] = 0x8f;
  std::vector<float> x = Decode(four_bits, VectorRole::kValue, part);
  EXPECT_EQ(x[0], 15.0f);   // code 15: +7.5
  EXPECT_EQ(x[1], 1.0f);    // code 8: +0.5
  EXPECT_EQ(x[2], -15.0f);  // code 0: -7.5

  const CodecSpec eight_bits{kHeadDim, {64, 8}, {64, 8}};
  part.assign(128 + kTokens * 64, 0);
  part[1] = 0x40;
  part[128] = 255;
  part[129] = 127;
  x = Decode(eight_bits, VectorRole::kValue, part);
  EXPECT_EQ(x[0], 255.0f);
  EXPECT_EQ(x[1], -1.0f);
  EXPECT_EQ(x[2], -255.0f);
}

TEST(BitstreamTest, EncodeSixteenBitsKeepsPatternsInChannelOrder) {
  const CodecSpec codec{kHeadDim, {2, 16}, {2, 16}};
  std::vector<uint16_t> x(kTokens * kHeadDim, 0);
  x[5] = 0xc123;
  x[40] = 0x3c01;
  const std::vector<uint8_t> part = Encode(codec, VectorRole::kKey, x);
  ASSERT_EQ(part.size(), kTokens * 8 + kTokens * 2 * 2);
  EXPECT_THAT(std::vector<uint8_t>(part.begin(), part.begin() + 8),
              ElementsAre(1 << 5, 0, 0, 0, 0, 1, 0, 0));
  const auto codes = part.begin() + kTokens * 8;
  EXPECT_THAT(std::vector<uint8_t>(codes, codes + 4), ElementsAre(0x23, 0xc1, 0x01, 0x3c));
  // A token of zeros keeps its lowest channels.
  EXPECT_EQ(part[8], 0b11);
}

TEST(BitstreamTest, EqualMagnitudesGoToTheLowerChannel) {
  const CodecSpec codec{kHeadDim, {3, 16}, {3, 16}};
  std::vector<uint16_t> x = testing::ConstantTensor(kTokens * kHeadDim, 1.0f);
  x[1] = 0xbc00;                   // -1: as large as the others
  x[63] = 0x3c01;                  // a little larger
  x[64 + 0] = x[64 + 2] = 0x3bff;  // a little smaller
  const std::vector<uint8_t> part = Encode(codec, VectorRole::kValue, x);
  EXPECT_THAT(std::vector<uint8_t>(part.begin(), part.begin() + 8),
              ElementsAre(0b11, 0, 0, 0, 0, 0, 0, 0x80));
  EXPECT_EQ(part[8], 0b11010);
}

TEST(BitstreamTest, NegativeZeroIsNoSmallerThanZero) {
  const CodecSpec codec{kHeadDim, {2, 16}, {2, 16}};
  std::vector<uint16_t> x(kTokens * kHeadDim, 0);
  x[0] = 0x8000;
  const std::vector<uint8_t> part = Encode(codec, VectorRole::kValue, x);
  EXPECT_EQ(part[0], 0b11);
  // The pattern is kept.
  EXPECT_EQ(part[kTokens * 8 + 1], 0x80);
}

TEST(BitstreamTest, EncodeTwoBitsByHand) {
  // Kept: 4, -4, 1, -1 of 64 channels (r = 1.5, h = 1.25). S = 10, T = 10 * (0.8125 * 1.25 / 4) =
  // 2.54; L = 8, n = 2; s = (10 + 0.5 * 8) / (4 + 1.25 * 2) = 2.1538, as float16 2.154296875.
  const CodecSpec codec{kHeadDim, {4, 2}, {4, 2}};
  std::vector<uint16_t> x(kTokens * kHeadDim, 0);
  x[0] = FloatToHalf(4.0f);
  x[1] = FloatToHalf(-4.0f);
  x[2] = FloatToHalf(1.0f);
  x[3] = FloatToHalf(-1.0f);
  const std::vector<uint8_t> part = Encode(codec, VectorRole::kValue, x);
  const size_t scales = kTokens * 8;
  const uint16_t scale = FloatToHalf(14.0f / 6.5f);
  EXPECT_EQ(part[0], 0b1111);
  EXPECT_EQ(part[scales], scale & 0xff);
  EXPECT_EQ(part[scales + 1], scale >> 8);
  // +r, -r, +1, -1.
  EXPECT_EQ(part[scales + 128], 0b10'00'11'01);
  // The tokens of zeros: scale and codes 0.
  EXPECT_EQ(part[scales + 2], 0);
  EXPECT_EQ(part[scales + 128 + 1], 0);
}

TEST(BitstreamTest, EncodeFourBitsByHand) {
  // Kept: 8, -2.5 of 64. M = 8, so u = floor(x + 8): 16 -> 15 and 5, levels 7.5 and -2.5;
  // s = (60 + 6.25) / (56.25 + 6.25) = 1.06; the codes are floor(8 / 1.06 + 8) = 15 and
  // floor(-2.5 / 1.06 + 8) = floor(5.64) = 5.
  const CodecSpec codec{kHeadDim, {2, 4}, {2, 4}};
  std::vector<uint16_t> x(kTokens * kHeadDim, 0);
  x[10] = FloatToHalf(8.0f);
  x[11] = FloatToHalf(-2.5f);
  const std::vector<uint8_t> part = Encode(codec, VectorRole::kValue, x);
  const size_t scales = kTokens * 8;
  const uint16_t scale = FloatToHalf(1.06f);
  EXPECT_EQ(part[scales], scale & 0xff);
  EXPECT_EQ(part[scales + 1], scale >> 8);
  EXPECT_EQ(part[scales + 128], 0x5f);
}

TEST(BitstreamTest, EqualiserCountsDroppedValuesToo) {
  // Channel 1 is 4 in every token but never kept; its exponent is log2(16) all the same. Channel 2
  // is 3 in one token only: log2(9 / 64) = -2.83 -> -3. Channel 3 is zeros.
  const CodecSpec codec{kHeadDim, {1, 4}, {1, 4}};
  std::vector<uint16_t> x(kTokens * kHeadDim, 0);
  for (size_t t = 0; t < kTokens; ++t) {
    x[t * kHeadDim] = FloatToHalf(100.0f);
    x[t * kHeadDim + 1] = FloatToHalf(-4.0f);
  }
  x[17 * kHeadDim + 2] = FloatToHalf(3.0f);
  const std::vector<uint8_t> part = Encode(codec, VectorRole::kKey, x);
  const size_t exponents = kTokens * 8;
  EXPECT_EQ(part[exponents], 13);  // log2(10000) = 13.29
  EXPECT_EQ(part[exponents + 1], 4);
  EXPECT_EQ(static_cast<int8_t>(part[exponents + 2]), -3);
  EXPECT_EQ(part[exponents + 3], 0);
}

}  // namespace
}  // namespace kvattend
