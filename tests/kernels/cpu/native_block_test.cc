#include "kernels/cpu/native_block.h"

#include <bit>
#include <cstring>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/random_tensors.h"

namespace kvattend {
namespace {

constexpr VectorRole kRoles[] = {VectorRole::kKey, VectorRole::kValue};

// A part with random bytes for fields, and exactly `kept` bits in each token's bitmap.
std::vector<uint8_t> RandomPart(const CodecSpec& codec, VectorRole role, uint64_t seed) {
  const NativePart part = MakeNativePart(codec, role);
  testing::RandomStream random(seed);
  std::vector<uint8_t> bytes(part.layout.size_bytes);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.Next());
  if (!part.is_sparse()) return bytes;
  uint8_t* const bitmaps = bytes.data() + part.layout.bitmap_offset;
  std::memset(bitmaps, 0, kBlockTokens * codec.head_dim / 8);
  for (int t = 0; t < kBlockTokens; ++t) {
    for (int left = part.kept; left > 0;) {
      const int64_t bit = t * codec.head_dim + random.Integer(0, codec.head_dim - 1);
      if ((bitmaps[bit / 8] >> (bit % 8)) & 1) continue;
      bitmaps[bit / 8] |= 1 << (bit % 8);
      --left;
    }
  }
  return bytes;
}

std::vector<CodecSpec> Codecs() {
  std::vector<CodecSpec> codecs;
  for (const int head_dim : {64, 128, 256}) {
    for (const int bits : {16, 8, 4, 2}) {
      for (const int kept : {1, 37, head_dim - 1, head_dim}) {
        codecs.push_back({head_dim, {kept, bits}, {kept, bits}});
      }
    }
  }
  return codecs;
}

TEST(NativeBlockTest, ConvertsThereAndBack) {
  for (const CodecSpec& codec : Codecs()) {
    for (const VectorRole role : kRoles) {
      SCOPED_TRACE(std::to_string(codec.head_dim) + ": " + std::to_string(codec.keys.kept) + "x" +
                   std::to_string(codec.keys.bits));
      const NativePart part = MakeNativePart(codec, role);
      const std::vector<uint8_t> canonical = RandomPart(codec, role, 1);
      std::vector<uint8_t> native(canonical.size(), 0xa5);
      std::vector<uint8_t> again(canonical.size(), 0x5a);
      CanonicalToNative(part, canonical.data(), native.data());
      NativeToCanonical(part, native.data(), again.data());
      ASSERT_EQ(again, canonical);
    }
  }
}

// Element (r, l) of the header's formulas, one by one.
TEST(NativeBlockTest, ElementsLieWhereTheHeaderSays) {
  for (const CodecSpec& codec : Codecs()) {
    for (const VectorRole role : kRoles) {
      const NativePart part = MakeNativePart(codec, role);
      if (!part.is_sparse()) continue;
      const std::vector<uint8_t> canonical = RandomPart(codec, role, 2);
      std::vector<uint8_t> native(canonical.size());
      CanonicalToNative(part, canonical.data(), native.data());
      const auto bit = [&](const std::vector<uint8_t>& bytes, int index) {
        return (bytes[part.layout.bitmap_offset + index / 8] >> (index % 8)) & 1;
      };
      const int n = part.group_lanes();
      for (int r = 0; r < part.num_reduced(); ++r) {
        for (int l = 0; l < part.num_lanes(); ++l) {
          const int index = part.quads
                                ? ((l / n * part.num_reduced() / 4 + r / 4) * n + l % n) * 4 + r % 4
                                : (l / n * part.num_reduced() + r) * n + l % n;
          const int token = part.is_keys() ? l : r;
          const int channel = part.is_keys() ? r : l;
          ASSERT_EQ(bit(native, index), bit(canonical, token * codec.head_dim + channel));
        }
      }
    }
  }
}

TEST(NativeBlockTest, LevelsAreTheCodecs) {
  // r of 1.5, 2 and 3.25.
  for (const int kept : {40, 90, 128}) {
    const CodecSpec codec{128, {kept, 2}, {kept, 2}};
    const NativePart part = MakeNativePart(codec, VectorRole::kValue);
    const float ratio = TwoBitMagnitudeRatio(codec.values, 128);
    const float expected[] = {1.0f, ratio, -1.0f, -ratio};
    for (int code = 0; code < 4; ++code) {
      EXPECT_EQ((part.levels[code] - part.level_offset) * part.level_unit, expected[code]);
    }
  }
}

}  // namespace
}  // namespace kvattend
