// The fast encoder against the scalar reference, byte for byte.
#include "kernels/cpu/encode.h"

#include <cstddef>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/codec/block_layout.h"
#include "kernels/codec/codec_spec.h"
#include "kernels/codec/reference_codec.h"
#include "tests/support/block_inputs.h"
#include "tests/support/simd_test.h"

namespace kvattend {
namespace {

class EncodeTest : public testing::SimdTest {};
INSTANTIATE_TEST_SUITE_P(Targets, EncodeTest, testing::SimdTest::Targets(),
                         testing::SimdTest::TargetName);

void ExpectReferenceBytes(const CodecSpec& codec, uint64_t seed) {
  const BlockLayout layout = MakeBlockLayout(codec);
  for (const testing::BlockInput& input : testing::BlockInputs(seed, codec.head_dim)) {
    for (const VectorRole role : {VectorRole::kKey, VectorRole::kValue}) {
      const size_t size = layout.part(role).size_bytes;
      std::vector<uint8_t> expected(size, 0xff);
      EncodeReference(codec, role, input.x.data(), expected.data());
      // Unaligned, and nothing around it may be written.
      std::vector<uint8_t> bytes(size + 128, 0xa5);
      const size_t offset = seed % 7;
      EncodePart(codec, role, input.x.data(), bytes.data() + offset);
      std::vector<uint8_t> surrounded(bytes.size(), 0xa5);
      std::copy(expected.begin(), expected.end(), surrounded.begin() + offset);
      for (size_t i = 0; i < bytes.size(); ++i) {
        ASSERT_EQ(bytes[i], surrounded[i])
            << input.name << ", " << (role == VectorRole::kKey ? "keys" : "values") << ", byte "
            << static_cast<ptrdiff_t>(i - offset) << " of " << size << ", codes from "
            << layout.part(role).code_offset;
      }
    }
  }
}

TEST_P(EncodeTest, GivesTheReferencesBytesForPresets) {
  uint64_t seed = 100;
  for (const CodecSpec& codec : testing::AllPresetCodecs()) {
    SCOPED_TRACE(testing::Describe(codec));
    ASSERT_NO_FATAL_FAILURE(ExpectReferenceBytes(codec, seed++));
  }
}

TEST_P(EncodeTest, GivesTheReferencesBytesForRandomCodecs) {
  uint64_t seed = 200;
  for (const CodecSpec& codec : testing::RandomCodecs(/*seed=*/7, /*count=*/24)) {
    SCOPED_TRACE(testing::Describe(codec));
    ASSERT_NO_FATAL_FAILURE(ExpectReferenceBytes(codec, seed++));
  }
}

}  // namespace
}  // namespace kvattend
