#include "client/cli/plan.h"

#include <gtest/gtest.h>

#include "kernels/codec/block_layout.h"

namespace kvattend::cli {
namespace {

PlanInput Llama(int64_t memory_bytes) {
  return {.num_layers = 32,
          .num_kv_heads = 8,
          .head_dim = 128,
          .memory_bytes = memory_bytes,
          .recent_window = 64,
          .tokens_per_session = 4096};
}

// Slabs that `sessions` of `tokens` take, counted unit by unit.
int64_t CountSlabs(const PlanInput& input, const CodecPlan& plan, int64_t sessions,
                   int64_t tokens) {
  const UnitCounts units = UnitsPerLayer(tokens, input.recent_window);
  int64_t slabs = 0;
  for (const auto& [unit_bytes, per_layer] :
       {std::pair(plan.block_bytes, units.blocks), std::pair(plan.page_bytes, units.pages)}) {
    int64_t left = 0;
    for (int64_t unit = 0; unit < per_layer * input.num_layers * sessions; ++unit) {
      if (left < unit_bytes) {
        ++slabs;
        left = kSlabBytes;
      }
      left -= unit_bytes;
    }
  }
  return slabs;
}

TEST(PlanTest, UnitsFollowTheCompressionRule) {
  // A layer compresses its oldest 64 tokens once it holds recent_window + 64; until then the exact
  // ones fill pages, and their peak counts from then on.
  struct Case {
    int64_t tokens, window, blocks, pages;
  };
  for (const Case& c :
       {Case{0, 64, 0, 0}, Case{1, 64, 0, 1}, Case{16, 64, 0, 1}, Case{17, 64, 0, 2},
        Case{127, 64, 0, 8}, Case{128, 64, 1, 8}, Case{191, 64, 1, 8}, Case{192, 64, 2, 8},
        Case{63, 0, 0, 4}, Case{64, 0, 1, 4}, Case{256, 0, 4, 4}, Case{100, 10, 1, 5},
        Case{73, 10, 0, 5}, Case{74, 10, 1, 5}}) {
    const UnitCounts units = UnitsPerLayer(c.tokens, c.window);
    EXPECT_EQ(units.blocks, c.blocks) << c.tokens << " " << c.window;
    EXPECT_EQ(units.pages, c.pages) << c.tokens << " " << c.window;
  }
}

TEST(PlanTest, UnitSizesAreThoseOfTheLayoutRounded) {
  for (int head_dim : {64, 128, 256}) {
    for (int64_t heads : {1, 3, 8}) {
      for (const CodecPreset& preset : CodecPresets()) {
        const CodecSpec codec = CodecFromPreset(preset.name, head_dim).value();
        PlanInput input = Llama(1 << 30);
        input.head_dim = head_dim;
        input.num_kv_heads = heads;
        const CodecPlan plan = PlanCodec(input, codec).value();
        const int64_t exact = heads * static_cast<int64_t>(MakeBlockLayout(codec).head_bytes);
        EXPECT_GE(plan.block_bytes, exact);
        EXPECT_LT(plan.block_bytes, exact + 256);
        EXPECT_EQ(plan.block_bytes % 256, 0);
        EXPECT_EQ(plan.page_bytes, heads * 16 * head_dim * 4);
      }
    }
  }
}

TEST(PlanTest, BalancedAtTheDesignsNumbers) {
  // 2,496 + 2,176 bytes a head and block, 8 heads: 37,376, a multiple of 256; 2.28 bits an element.
  const CodecPlan plan =
      PlanCodec(Llama(int64_t{8} << 30), CodecFromPreset("balanced", 128).value()).value();
  EXPECT_EQ(plan.block_bytes, 37'376);
  EXPECT_EQ(plan.page_bytes, 65'536);
  EXPECT_DOUBLE_EQ(plan.bits_per_element, 37'376 * 8.0 / (2 * 64 * 8 * 128));
  EXPECT_DOUBLE_EQ(plan.bytes_per_token, 37'376.0 / 64 * 32);
}

TEST(PlanTest, WhatIsPlannedFitsAndOneMoreDoesNot) {
  for (const CodecPreset& preset : CodecPresets()) {
    for (int64_t window : {0, 64, 1000}) {
      PlanInput input = Llama(int64_t{300} << 20);
      input.recent_window = window;
      input.tokens_per_session = 700;
      const int64_t slabs = input.memory_bytes / kSlabBytes;
      const CodecPlan plan =
          PlanCodec(input, CodecFromPreset(preset.name, input.head_dim).value()).value();
      EXPECT_LE(CountSlabs(input, plan, plan.sessions, 700), slabs);
      EXPECT_GT(CountSlabs(input, plan, plan.sessions + 1, 700), slabs);
      EXPECT_LE(CountSlabs(input, plan, 1, plan.tokens), slabs);
      EXPECT_GT(CountSlabs(input, plan, 1, plan.tokens + 1), slabs);
    }
  }
}

TEST(PlanTest, PartialSlabsDoNotCount) {
  const CodecSpec codec = CodecFromPreset("lean", 128).value();
  const CodecPlan whole = PlanCodec(Llama(100 * kSlabBytes), codec).value();
  const CodecPlan more = PlanCodec(Llama(101 * kSlabBytes - 1), codec).value();
  EXPECT_EQ(whole.tokens, more.tokens);
  EXPECT_EQ(PlanCodec(Llama(kSlabBytes - 1), codec)->tokens, 0);
}

TEST(PlanTest, SessionsTooLongForTheMemory) {
  PlanInput input = Llama(int64_t{80} << 30);
  input.num_layers = 1024;
  input.tokens_per_session = int64_t{1} << 32;
  EXPECT_EQ(PlanCodec(input, CodecFromPreset("lean", 128).value())->sessions, 0);
  EXPECT_EQ(PlanDense(input).sessions, 0);
}

TEST(PlanTest, BlocksLargerThanASlabAreRefused) {
  PlanInput input = Llama(int64_t{80} << 30);
  input.num_kv_heads = 256;
  EXPECT_TRUE(
      absl::IsInvalidArgument(PlanCodec(input, CodecFromPreset("fp16", 128).value()).status()));
}

TEST(PlanTest, DenseLosesNothing) {
  // 131,072 bytes a token of 32 layers x 8 heads x 128 channels, keys and values.
  const CodecPlan plan = PlanDense(Llama(int64_t{80} << 30));
  EXPECT_EQ(plan.tokens, 655'360);
  EXPECT_EQ(plan.sessions, 160);
  EXPECT_EQ(plan.bits_per_element, 16);
}

}  // namespace
}  // namespace kvattend::cli
