#include "kernels/codec/codec_spec.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/base/status_macros.h"

namespace kvattend {
namespace {

// The head dimension that presets are stated for.
constexpr int kPresetHeadDim = 128;

VectorFormat ScaleToHeadDim(const VectorFormat& format, int head_dim) {
  // Every preset keeps an even number, so the shares are exact at 64 and 256 too.
  const int kept = format.kept * head_dim / kPresetHeadDim;
  return {.kept = kept, .bits = format.bits};
}

CodecSpec SpecOf(const CodecPreset& preset, int head_dim) {
  return {.head_dim = head_dim,
          .keys = ScaleToHeadDim(preset.keys, head_dim),
          .values = ScaleToHeadDim(preset.values, head_dim)};
}

absl::Status ValidateHeadDim(int head_dim) {
  if (head_dim == 64 || head_dim == 128 || head_dim == 256) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("head_dim: expected 64, 128 or 256, found ", head_dim));
}

absl::Status ValidateFormat(absl::string_view field, const VectorFormat& format, int head_dim) {
  if (format.kept < 1 || format.kept > head_dim) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ".kept: expected 1 to ", head_dim, ", found ", format.kept));
  }
  if (format.bits != 16 && format.bits != 8 && format.bits != 4 && format.bits != 2) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ".bits: expected 16, 8, 4 or 2, found ", format.bits));
  }
  return absl::OkStatus();
}

}  // namespace

const std::vector<CodecPreset>& CodecPresets() {
  static const auto& presets = *new std::vector<CodecPreset>{
      {"balanced", {38, 4}, {128, 2}},     {"lean", {28, 2}, {48, 2}},
      {"fine", {64, 4}, {80, 2}},          {"fp16", {128, 16}, {128, 16}},
      {"sparse50", {64, 16}, {64, 16}},    {"sparse70", {38, 16}, {38, 16}},
      {"sparse50-int4", {64, 4}, {64, 4}}, {"sparse70-int4", {38, 4}, {38, 4}},
      {"sparse50-int2", {64, 2}, {64, 2}}, {"sparse70-int2", {38, 2}, {38, 2}},
      {"int8", {128, 8}, {128, 8}},        {"int4", {128, 4}, {128, 4}},
      {"int2", {128, 2}, {128, 2}},
  };
  return presets;
}

absl::Status ValidateCodec(const CodecSpec& codec) {
  KVATTEND_RETURN_IF_ERROR(ValidateHeadDim(codec.head_dim));
  KVATTEND_RETURN_IF_ERROR(ValidateFormat("keys", codec.keys, codec.head_dim));
  return ValidateFormat("values", codec.values, codec.head_dim);
}

absl::StatusOr<CodecSpec> CodecFromPreset(absl::string_view name, int head_dim) {
  KVATTEND_RETURN_IF_ERROR(ValidateHeadDim(head_dim));
  for (const CodecPreset& preset : CodecPresets()) {
    if (name == preset.name) return SpecOf(preset, head_dim);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "preset: expected one of ",
      absl::StrJoin(CodecPresets(), ", ",
                    [](std::string* out, const CodecPreset& preset) { out->append(preset.name); }),
      "; found \"", name, "\""));
}

absl::string_view CodecName(const CodecSpec& codec) {
  for (const CodecPreset& preset : CodecPresets()) {
    if (SpecOf(preset, codec.head_dim) == codec) return preset.name;
  }
  return kCustomCodec;
}

float TwoBitMagnitudeRatio(const VectorFormat& format, int head_dim) {
  // Pruning leaves the tails, whose magnitudes lie closer together the more was pruned. The shares
  // are compared in integers: 0.45 = 45 / 100.
  if (100 * format.kept <= 45 * head_dim) return 1.5f;
  if (100 * format.kept <= 75 * head_dim) return 2.0f;
  return 3.25f;
}

}  // namespace kvattend
