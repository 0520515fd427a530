// The fast decoder against the scalar reference, bit for bit.
#include "kernels/cpu/decode.h"

#include <bit>
#include <cmath>
#include <cstddef>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/codec/block_layout.h"
#include "kernels/codec/codec_spec.h"
#include "kernels/codec/reference_codec.h"
#include "tests/support/block_inputs.h"
#include "tests/support/random_tensors.h"
#include "tests/support/simd_test.h"

namespace kvattend {
namespace {

class DecodeTest : public testing::SimdTest {};
INSTANTIATE_TEST_SUITE_P(Targets, DecodeTest, testing::SimdTest::Targets(),
                         testing::SimdTest::TargetName);

void ExpectReferenceValues(const CodecSpec& codec, VectorRole role,
                           const std::vector<uint8_t>& part) {
  const size_t size = size_t{kBlockTokens} * codec.head_dim;
  std::vector<float> expected(size, std::nanf(""));
  DecodeReference(codec, role, part.data(), expected.data());
  // The part ends where its memory does, so that AddressSanitizer sees what reads past it.
  std::vector<float> values(size + 1, std::nanf(""));
  DecodePart(codec, role, part.data(), values.data());
  for (size_t i = 0; i < size; ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(values[i]), std::bit_cast<uint32_t>(expected[i]))
        << (role == VectorRole::kKey ? "keys" : "values") << ", token " << i / codec.head_dim
        << ", channel " << i % codec.head_dim << ": " << values[i] << " for " << expected[i];
  }
  ASSERT_TRUE(std::isnan(values[size]));
}

void ExpectReferenceValues(const CodecSpec& codec, uint64_t seed) {
  for (const testing::BlockInput& input : testing::BlockInputs(seed, codec.head_dim)) {
    SCOPED_TRACE(input.name);
    for (const VectorRole role : {VectorRole::kKey, VectorRole::kValue}) {
      std::vector<uint8_t> part(MakeBlockLayout(codec).part(role).size_bytes);
      EncodeReference(codec, role, input.x.data(), part.data());
      ASSERT_NO_FATAL_FAILURE(ExpectReferenceValues(codec, role, part));
    }
  }
}

TEST_P(DecodeTest, GivesTheReferencesValuesForPresets) {
  uint64_t seed = 300;
  for (const CodecSpec& codec : testing::AllPresetCodecs()) {
    SCOPED_TRACE(testing::Describe(codec));
    ASSERT_NO_FATAL_FAILURE(ExpectReferenceValues(codec, seed++));
  }
}

TEST_P(DecodeTest, GivesTheReferencesValuesForRandomCodecs) {
  uint64_t seed = 400;
  for (const CodecSpec& codec : testing::RandomCodecs(/*seed=*/8, /*count=*/24)) {
    SCOPED_TRACE(testing::Describe(codec));
    ASSERT_NO_FATAL_FAILURE(ExpectReferenceValues(codec, seed++));
  }
}

// Parts that are valid though no encoder writes them: any code, scale and exponent.
TEST_P(DecodeTest, TakesWhateverIsValid) {
  testing::RandomStream random(9);
  for (const CodecSpec& codec : testing::RandomCodecs(/*seed=*/10, /*count=*/24)) {
    SCOPED_TRACE(testing::Describe(codec));
    for (const VectorRole role : {VectorRole::kKey, VectorRole::kValue}) {
      const VectorLayout layout = MakeBlockLayout(codec).part(role);
      const size_t size = size_t{kBlockTokens} * codec.head_dim;
      std::vector<uint8_t> part(layout.size_bytes);
      EncodeReference(codec, role, testing::GaussianTensor(random.Next(), size).data(),
                      part.data());
      // Bitmaps stay: they must have `kept` bits a token. So do 16-bit codes: they must be finite.
      if (layout.has_exponents) {
        for (int c = 0; c < codec.head_dim; ++c) {
          part[layout.exponent_offset + c] = static_cast<uint8_t>(random.Integer(-54, 32));
        }
      }
      if (layout.has_scales) {
        for (int t = 0; t < kBlockTokens; ++t) {
          const int64_t scale = random.Integer(0, 0x7bff);
          part[layout.scale_offset + 2 * t] = static_cast<uint8_t>(scale);
          part[layout.scale_offset + 2 * t + 1] = static_cast<uint8_t>(scale >> 8);
        }
        for (size_t i = layout.code_offset; i < part.size(); ++i) {
          part[i] = static_cast<uint8_t>(random.Next());
        }
      }
      ASSERT_TRUE(ValidateBlockPart(codec, role, part.data()).ok());
      ASSERT_NO_FATAL_FAILURE(ExpectReferenceValues(codec, role, part));
    }
  }
}

}  // namespace
}  // namespace kvattend
