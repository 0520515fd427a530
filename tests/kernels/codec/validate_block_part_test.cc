// ValidateBlockPart refuses each kind of corruption and names where it is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/base/half.h"
#include "kernels/codec/block_layout.h"
#include "kernels/codec/quantiser.h"
#include "kernels/codec/reference_codec.h"
#include "tests/support/random_tensors.h"

namespace kvattend {
namespace {

using ::testing::HasSubstr;

constexpr int kHeadDim = 128;

// A valid part of a preset, to be corrupted.
class Part {
 public:
  Part(const char* preset, VectorRole role)
      : codec_(CodecFromPreset(preset, kHeadDim).value()),
        role_(role),
        layout_(MakeBlockLayout(codec_).part(role)),
        bytes_(layout_.size_bytes) {
    const auto x = testing::GaussianTensor(3, size_t{kBlockTokens} * kHeadDim);
    EncodeReference(codec_, role_, x.data(), bytes_.data());
    EXPECT_TRUE(Validate().ok());
  }

  absl::Status Validate() const { return ValidateBlockPart(codec_, role_, bytes_.data()); }

  // The message of the expected refusal.
  std::string Refusal() const {
    const absl::Status status = Validate();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  }

  void SetHalf(size_t offset, uint16_t half) {
    bytes_[offset] = static_cast<uint8_t>(half);
    bytes_[offset + 1] = static_cast<uint8_t>(half >> 8);
  }

  const VectorLayout& layout() const { return layout_; }
  std::vector<uint8_t>& bytes() { return bytes_; }

 private:
  CodecSpec codec_;
  VectorRole role_;
  VectorLayout layout_;
  std::vector<uint8_t> bytes_;
};

TEST(ValidateBlockPartTest, RefusesAnyFlippedBitOfABitmap) {
  Part part("sparse70-int2", VectorRole::kKey);
  const size_t bits = size_t{kBlockTokens} * kHeadDim;
  for (size_t bit = 0; bit < bits; ++bit) {
    const auto flip = static_cast<uint8_t>(1 << (bit % 8));
    const bool was_set = (part.bytes()[bit / 8] & flip) != 0;
    part.bytes()[bit / 8] ^= flip;
    ASSERT_EQ(part.Refusal(), "token " + std::to_string(bit / kHeadDim) +
                                  ": expected 38 kept channels in its bitmap, found " +
                                  (was_set ? "37" : "39"));
    part.bytes()[bit / 8] ^= flip;
  }
}

TEST(ValidateBlockPartTest, RefusesScales) {
  for (const VectorRole role : {VectorRole::kKey, VectorRole::kValue}) {
    for (const char* preset : {"int2", "sparse50-int4", "int8"}) {
      Part part(preset, role);
      const size_t offset = part.layout().scale_offset + 2 * 21;
      for (const uint16_t bad : {0x7c00, 0x7e00, 0xfc00, 0x8000, 0xbc00}) {
        part.SetHalf(offset, bad);
        EXPECT_THAT(part.Refusal(), HasSubstr("token 21: expected a scale")) << bad;
      }
      for (const uint16_t good : {0x0000, 0x0001, 0x7bff}) {
        part.SetHalf(offset, good);
        EXPECT_TRUE(part.Validate().ok()) << good;
      }
    }
  }
}

TEST(ValidateBlockPartTest, RefusesExponents) {
  Part part("balanced", VectorRole::kKey);
  uint8_t& exponent = part.bytes()[part.layout().exponent_offset + 99];
  for (int e = -128; e <= 127; ++e) {
    exponent = static_cast<uint8_t>(e);
    if (e >= kMinExponent && e <= kMaxExponent) {
      EXPECT_TRUE(part.Validate().ok()) << e;
    } else {
      EXPECT_EQ(part.Refusal(),
                "channel 99: expected an exponent of -54 to 32, found " + std::to_string(e));
    }
  }
}

TEST(ValidateBlockPartTest, RefusesSixteenBitCodes) {
  Part part("sparse70", VectorRole::kValue);
  const size_t offset = part.layout().code_offset + 2 * (5 * 38 + 37);
  part.SetHalf(offset, 0xfc00);
  EXPECT_EQ(part.Refusal(), "token 5: kept value 37 is -inf, not finite");
  part.SetHalf(offset, 0x7c01);
  EXPECT_THAT(part.Refusal(), HasSubstr("token 5: kept value 37 is nan"));
  part.SetHalf(offset, 0xfbff);
  EXPECT_TRUE(part.Validate().ok());
}

TEST(ValidateBlockPartTest, WhatPassesDecodesToFiniteValues) {
  // The largest of everything.
  const CodecSpec codec = CodecFromPreset("int8", kHeadDim).value();
  Part part("int8", VectorRole::kKey);
  for (int c = 0; c < kHeadDim; ++c) part.bytes()[part.layout().exponent_offset + c] = kMaxExponent;
  for (int t = 0; t < kBlockTokens; ++t) {
    part.SetHalf(part.layout().scale_offset + 2 * t, kMaxHalfBits);
  }
  ASSERT_TRUE(part.Validate().ok());
  std::vector<float> x(size_t{kBlockTokens} * kHeadDim, NAN);
  DecodeReference(codec, VectorRole::kKey, part.bytes().data(), x.data());
  for (const float value : x) ASSERT_TRUE(std::isfinite(value));
}

}  // namespace
}  // namespace kvattend
