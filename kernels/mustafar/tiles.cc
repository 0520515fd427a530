#include "kernels/mustafar/tiles.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "kernels/base/half.h"
#include "kernels/base/status_macros.h"
#include "kernels/mustafar/tile_layout.h"

namespace kvattend::mustafar {
namespace {

// The most elements of a tensor: any format's offsets, signed ones too, fit 32 bits then.
constexpr int64_t kMaxElements = int64_t{1} << 31;

absl::Status CheckDimension(absl::string_view field, int64_t value, int64_t multiple) {
  if (value > 0 && value % multiple == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": expected a positive multiple of ", multiple, ", got ", value));
}

absl::Status CheckSize(absl::string_view field, size_t size, size_t expected) {
  if (size == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": expected ", expected, " entries, got ", size));
}

absl::Status CheckArraySizes(const Tiles& tiles) {
  const TileSpec& spec = tiles.spec;
  const size_t num_tiles = static_cast<size_t>(spec.batch * spec.tiles_per_row());
  const bool has_zeros = spec.format == TileFormat::kInt2Tile;
  absl::Status status = CheckSize("bitmaps", tiles.bitmaps.size(), num_tiles);
  status.Update(CheckSize("offsets", tiles.offsets.size(), NumTileOffsets(spec)));
  status.Update(CheckSize("scales", tiles.scales.size(), has_zeros ? num_tiles : 0));
  status.Update(CheckSize("zeros", tiles.zeros.size(), has_zeros ? num_tiles : 0));
  status.Update(CheckSize("head_scales", tiles.head_scales.size(),
                          spec.format == TileFormat::kInt2Head ? spec.num_heads : 0));
  return status;
}

// Offsets follow from bitmaps, so the only right ones are those that CompressTiles would write.
absl::Status CheckOffsets(const Tiles& tiles) {
  const TileOffsets expected = MakeTileOffsets(tiles.spec, tiles.bitmaps);
  for (size_t i = 0; i < tiles.offsets.size(); ++i) {
    if (tiles.offsets[i] == expected.offsets[i]) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "offsets[", i, "]: the bitmaps say ", expected.offsets[i], ", got ", tiles.offsets[i]));
  }
  return CheckSize("packed", tiles.packed.size(), expected.packed_bytes);
}

absl::Status NotFinite(absl::string_view field, size_t index) {
  return absl::InvalidArgumentError(absl::StrCat(field, "[", index, "]: not finite"));
}

absl::Status CheckFinite(const Tiles& tiles) {
  for (size_t i = 0; i < tiles.scales.size(); ++i) {
    // Codes lie between 0 and 3: their values are finite if these two are.
    const float scale = tiles.scales[i];
    const float zero = tiles.zeros[i];
    if (!std::isfinite((0.0f - zero) * scale) || !std::isfinite((3.0f - zero) * scale)) {
      return NotFinite("scales", i);
    }
  }
  for (size_t i = 0; i < tiles.head_scales.size(); ++i) {
    if (!IsFiniteHalf(tiles.head_scales[i])) return NotFinite("head_scales", i);
  }
  if (tiles.spec.format != TileFormat::kFp16) return absl::OkStatus();
  for (size_t i = 0; i < tiles.packed.size() / 2; ++i) {
    // Little-endian: the exponent is in the second byte.
    if (!IsFiniteHalf(static_cast<uint16_t>(tiles.packed[2 * i + 1] << 8))) {
      return NotFinite("packed values", i);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateTileSpec(const TileSpec& spec) {
  absl::Status status = CheckDimension("batch", spec.batch, 1);
  status.Update(CheckDimension("num_tokens", spec.num_tokens, kTileElements));
  status.Update(CheckDimension("head_dim", spec.head_dim, kTileElements));
  if (!status.ok()) return status;
  if (spec.num_tokens > kMaxElements / spec.head_dim ||
      spec.batch > kMaxElements / (spec.num_tokens * spec.head_dim)) {
    return absl::InvalidArgumentError(absl::StrCat("batch * num_tokens * head_dim: at most ",
                                                   kMaxElements, ", got ", spec.batch, " * ",
                                                   spec.num_tokens, " * ", spec.head_dim));
  }
  if (spec.format != TileFormat::kInt2Head) {
    if (spec.num_heads == 0) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("num_heads: expected 0 in this format, got ", spec.num_heads));
  }
  if (spec.num_heads > 0 && spec.batch % spec.num_heads == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("num_heads: expected a divisor of the batch of ",
                                                 spec.batch, ", got ", spec.num_heads));
}

absl::Status ValidateTiles(const Tiles& tiles) {
  KVATTEND_RETURN_IF_ERROR(ValidateTileSpec(tiles.spec));
  KVATTEND_RETURN_IF_ERROR(CheckArraySizes(tiles));
  KVATTEND_RETURN_IF_ERROR(CheckOffsets(tiles));
  return CheckFinite(tiles);
}

}  // namespace kvattend::mustafar
