#include "kernels/mustafar/tile_layout.h"

#include <bit>

namespace kvattend::mustafar {
namespace {

// Offsets of each row start at 0 and end with the row's total.
bool HasRowOffsets(TileFormat format) { return format == TileFormat::kFp16; }

// What offsets count in: two float16 values, one 32-bit word, one byte.
size_t OffsetUnitBytes(TileFormat format) { return format == TileFormat::kInt2Head ? 1 : 4; }

size_t RoundUp(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

TileElements LocateTile(const TileSpec& spec, int64_t tile) {
  // A block of 64 tokens has head_dim tiles in either role.
  const int64_t first_token = tile / spec.head_dim * kTileElements;
  const int64_t index = tile % spec.head_dim;
  if (spec.role == TileRole::kKey) return {first_token * spec.head_dim + index, spec.head_dim};
  const int64_t token = first_token + index % kTileElements;
  const int64_t first_channel = index / kTileElements * kTileElements;
  return {token * spec.head_dim + first_channel, 1};
}

size_t PackedTileBytes(TileFormat format, int count) {
  const size_t values = static_cast<size_t>(count);
  switch (format) {
    case TileFormat::kFp16:
      return RoundUp(values, 8) * sizeof(uint16_t);
    case TileFormat::kInt2Tile:
      return RoundUp(values, 16) / 4;
    case TileFormat::kInt2Head:
      return RoundUp(values, 8) / 4;
  }
  return 0;
}

TileOffsets MakeTileOffsets(const TileSpec& spec, absl::Span<const uint64_t> bitmaps) {
  const size_t unit_bytes = OffsetUnitBytes(spec.format);
  TileOffsets result;
  result.offsets.reserve(NumTileOffsets(spec));
  auto bitmap = bitmaps.begin();
  for (int64_t row = 0; row < spec.batch; ++row) {
    const size_t origin = HasRowOffsets(spec.format) ? result.packed_bytes : 0;
    const auto push_offset = [&] {
      result.offsets.push_back(static_cast<uint32_t>((result.packed_bytes - origin) / unit_bytes));
    };
    for (int64_t tile = 0; tile < spec.tiles_per_row(); ++tile) {
      push_offset();
      result.packed_bytes += PackedTileBytes(spec.format, std::popcount(*bitmap++));
    }
    if (HasRowOffsets(spec.format)) push_offset();
  }
  return result;
}

size_t NumTileOffsets(const TileSpec& spec) {
  const int64_t per_row = spec.tiles_per_row() + (HasRowOffsets(spec.format) ? 1 : 0);
  return static_cast<size_t>(spec.batch * per_row);
}

}  // namespace kvattend::mustafar
