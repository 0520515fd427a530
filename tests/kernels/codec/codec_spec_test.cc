#include "kernels/codec/codec_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace kvattend {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(CodecSpecTest, PresetsInOrderTheDefaultFirst) {
  std::vector<std::string> names;
  for (const CodecPreset& preset : CodecPresets()) names.push_back(preset.name);
  EXPECT_THAT(names, ElementsAre("balanced", "lean", "fine", "fp16", "sparse50", "sparse70",
                                 "sparse50-int4", "sparse70-int4", "sparse50-int2", "sparse70-int2",
                                 "int8", "int4", "int2"));
  EXPECT_EQ(names.front(), kDefaultPreset);
}

TEST(CodecSpecTest, PresetsKeepTheirShareAtEveryHeadDim) {
  for (const int head_dim : {64, 128, 256}) {
    for (const CodecPreset& preset : CodecPresets()) {
      const CodecSpec codec = CodecFromPreset(preset.name, head_dim).value();
      EXPECT_EQ(codec.head_dim, head_dim);
      EXPECT_EQ(codec.keys.kept * 128, preset.keys.kept * head_dim);
      EXPECT_EQ(codec.values.kept * 128, preset.values.kept * head_dim);
      EXPECT_EQ(codec.keys.bits, preset.keys.bits);
      EXPECT_EQ(codec.values.bits, preset.values.bits);
      EXPECT_TRUE(ValidateCodec(codec).ok());
      EXPECT_EQ(CodecName(codec), preset.name);
    }
  }
}

TEST(CodecSpecTest, OtherCodecsAreCustom) {
  EXPECT_EQ(CodecName({128, {37, 4}, {128, 2}}), kCustomCodec);
  EXPECT_EQ(CodecName({64, {38, 4}, {128, 2}}), kCustomCodec);
}

TEST(CodecSpecTest, UnknownPresetListsTheNames) {
  const absl::Status status = CodecFromPreset("int3", 128).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("balanced, lean, fine"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("\"int3\""));
}

TEST(CodecSpecTest, PresetRefusesOtherHeadDims) {
  EXPECT_EQ(CodecFromPreset("int4", 96).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(CodecSpecTest, ValidateNamesTheField) {
  const auto message = [](const CodecSpec& codec) {
    const absl::Status status = ValidateCodec(codec);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_EQ(message({100, {10, 4}, {10, 4}}), "head_dim: expected 64, 128 or 256, found 100");
  EXPECT_EQ(message({64, {0, 4}, {10, 4}}), "keys.kept: expected 1 to 64, found 0");
  EXPECT_EQ(message({64, {10, 3}, {10, 4}}), "keys.bits: expected 16, 8, 4 or 2, found 3");
  EXPECT_EQ(message({64, {10, 4}, {65, 4}}), "values.kept: expected 1 to 64, found 65");
  EXPECT_EQ(message({64, {10, 4}, {10, 0}}), "values.bits: expected 16, 8, 4 or 2, found 0");
  EXPECT_TRUE(ValidateCodec({64, {1, 16}, {64, 8}}).ok());
}

TEST(CodecSpecTest, TwoBitMagnitudeRatioByShareKept) {
  EXPECT_EQ(TwoBitMagnitudeRatio({1, 2}, 128), 1.5f);
  EXPECT_EQ(TwoBitMagnitudeRatio({57, 2}, 128), 1.5f);
  EXPECT_EQ(TwoBitMagnitudeRatio({58, 2}, 128), 2.0f);
  EXPECT_EQ(TwoBitMagnitudeRatio({96, 2}, 128), 2.0f);
  EXPECT_EQ(TwoBitMagnitudeRatio({97, 2}, 128), 3.25f);
  EXPECT_EQ(TwoBitMagnitudeRatio({48, 2}, 64), 2.0f);
  EXPECT_EQ(TwoBitMagnitudeRatio({256, 2}, 256), 3.25f);
}

}  // namespace
}  // namespace kvattend
