// The GPU layout is a permutation of a block: every element has one place, every bit one owner.
#include "kernels/cuda/gpu_block_layout.h"

#include <gtest/gtest.h>

#include <set>
#include <utility>

#include "kernels/codec/block_layout.h"
#include "kernels/codec/codec_spec.h"

namespace kvattend::cuda {
namespace {

TEST(GpuBlockLayoutTest, TilesHoldEveryElementOnce) {
  for (const int head_dim : {64, 128, 256}) {
    for (const bool is_key : {false, true}) {
      for (const int bits : {2, 4, 8, 16}) {
        const GpuPartLayout layout = MakeGpuPartLayout(head_dim, head_dim, bits, is_key);
        std::set<std::pair<int, int>> elements;
        std::set<int> code_bits;
        for (int tile = 0; tile < layout.num_tiles(); ++tile) {
          for (int lane = 0; lane < kLanes; ++lane) {
            for (int row = 0; row < kTileRows; ++row) {
              for (int slot = 0; slot < kTileSlots; ++slot) {
                const Element e = ElementOf(layout, tile, lane, row, slot);
                EXPECT_TRUE(e.token >= 0 && e.token < kTokensPerBlock);
                EXPECT_TRUE(e.channel >= 0 && e.channel < head_dim);
                elements.insert({e.token, e.channel});
                const int bit = DenseCodeBit(bits, tile, lane, row, slot);
                EXPECT_EQ(bit % bits, 0);
                EXPECT_TRUE(bit >= 0 && bit < kTokensPerBlock * head_dim * bits);
                code_bits.insert(bit);
              }
            }
          }
        }
        EXPECT_EQ(elements.size(), static_cast<size_t>(kTokensPerBlock * head_dim));
        EXPECT_EQ(code_bits.size(), elements.size());
      }
    }
  }
}

TEST(GpuBlockLayoutTest, PagesHoldEveryElementOnce) {
  for (const int head_dim : {64, 128, 256}) {
    std::set<int> keys, values;
    for (int slot = 0; slot < kTokensPerPage; ++slot) {
      for (int c = 0; c < head_dim; ++c) {
        keys.insert(PageKeyIndex(head_dim, slot, c));
        values.insert(PageValueIndex(slot, c));
      }
    }
    const int size = kTokensPerPage * head_dim;
    EXPECT_EQ(keys.size(), static_cast<size_t>(size));
    EXPECT_EQ(values.size(), static_cast<size_t>(size));
    EXPECT_EQ(*keys.rbegin(), size - 1);
    EXPECT_EQ(*values.rbegin(), size - 1);
    EXPECT_EQ(PageValueOffset(head_dim), 2 * size);
    EXPECT_EQ(PageHeadBytes(head_dim), 4 * size);
  }
}

TEST(GpuBlockLayoutTest, ScalesHaveOnePlaceEach) {
  std::set<int> indices;
  for (int token = 0; token < kTokensPerBlock; ++token) indices.insert(ScaleIndex(token));
  EXPECT_EQ(indices.size(), static_cast<size_t>(kTokensPerBlock));
  EXPECT_EQ(*indices.rbegin(), kTokensPerBlock - 1);
}

TEST(GpuBlockLayoutTest, PartsTakeTheCanonicalBytesAndAtMostAGap) {
  for (const CodecPreset& preset : CodecPresets()) {
    for (const int head_dim : {64, 128, 256}) {
      const CodecSpec codec = CodecFromPreset(preset.name, head_dim).value();
      for (const VectorRole role : {VectorRole::kKey, VectorRole::kValue}) {
        const VectorFormat& format = codec.format(role);
        const GpuPartLayout layout =
            MakeGpuPartLayout(head_dim, format.kept, format.bits, role == VectorRole::kKey);
        const auto canonical = static_cast<int>(MakeBlockLayout(codec).part(role).size_bytes);
        EXPECT_EQ(layout.size_bytes - canonical, layout.gap_bits()) << preset.name;
        EXPECT_EQ(layout.size_bytes % 16, 0) << preset.name;
        EXPECT_EQ(layout.scale_offset % 16, 0) << preset.name;
      }
    }
  }
}

}  // namespace
}  // namespace kvattend::cuda
