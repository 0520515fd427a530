#include "kernels/mustafar/tile_codec.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "kernels/base/half.h"
#include "kernels/base/status_macros.h"
#include "kernels/mustafar/tile_layout.h"

namespace kvattend::mustafar {
namespace {

// Levels of 2-bit codes: (code - zero) * scale, code 0 to 3.
struct Int2Levels {
  float scale = 0.0f;
  float zero = 0.0f;

  uint8_t Encode(float x) const {
    return static_cast<uint8_t>(std::clamp(std::floor(x / scale + zero + 0.5f), 0.0f, 3.0f));
  }
  float Decode(uint8_t code) const { return (static_cast<float>(code) - zero) * scale; }
};

// Levels of a head lie evenly about 0: (code - 1.5) * scale.
Int2Levels HeadLevels(const Tiles& tiles, int64_t row) {
  return {HalfToFloat(tiles.head_scales[row % tiles.spec.num_heads]), 1.5f};
}

// Magnitudes of float16 order like their patterns without the sign.
uint16_t Magnitude(uint16_t half) { return half & 0x7fff; }

// Of each head, the scale that puts its largest magnitude on the outermost level. Never 0 but for a
// head of zeros: the smallest subnormal / 1.5 rounds up to itself.
std::vector<uint16_t> MakeHeadScales(const TileSpec& spec, absl::Span<const uint16_t> dense) {
  const int64_t row_elements = spec.num_tokens * spec.head_dim;
  std::vector<uint16_t> scales(spec.num_heads, 0);
  for (int64_t row = 0; row < spec.batch; ++row) {
    uint16_t& largest = scales[row % spec.num_heads];
    for (const uint16_t half : dense.subspan(row * row_elements, row_elements)) {
      largest = std::max(largest, Magnitude(half));
    }
  }
  for (uint16_t& scale : scales) scale = FloatToHalf(HalfToFloat(scale) / 1.5f);
  return scales;
}

// The nonzeros of a tile, in order.
struct Nonzeros {
  uint64_t bitmap = 0;
  int count = 0;
  std::array<uint16_t, kTileElements> values;
};
Nonzeros GatherNonzeros(absl::Span<const uint16_t> row, const TileElements& elements) {
  Nonzeros nonzeros;
  for (int i = 0; i < kTileElements; ++i) {
    const uint16_t half = row[elements.start + i * elements.stride];
    if (Magnitude(half) == 0) continue;
    nonzeros.bitmap |= TileBit(i);
    nonzeros.values[nonzeros.count++] = half;
  }
  return nonzeros;
}

// Levels from the least to the greatest of a tile's nonzeros.
Int2Levels SpanLevels(const Nonzeros& nonzeros) {
  if (nonzeros.count == 0) return {0.0f, 0.0f};
  float min = HalfToFloat(nonzeros.values[0]);
  float max = min;
  for (int i = 1; i < nonzeros.count; ++i) {
    min = std::min(min, HalfToFloat(nonzeros.values[i]));
    max = std::max(max, HalfToFloat(nonzeros.values[i]));
  }
  if (min == max) return {min, -1.0f};  // code 0 is the value, exactly
  const float scale = (max - min) / 3.0f;
  return {scale, std::floor(-min / scale + 0.5f)};
}

// Appends `nonzeros` and the tile's padding.
void PackTile(const Nonzeros& nonzeros, TileFormat format, const Int2Levels& levels,
              std::vector<uint8_t>& packed) {
  const size_t begin = packed.size();
  packed.resize(begin + PackedTileBytes(format, nonzeros.count), 0);
  for (int i = 0; i < nonzeros.count; ++i) {
    const uint16_t half = nonzeros.values[i];
    if (format == TileFormat::kFp16) {
      packed[begin + 2 * i] = static_cast<uint8_t>(half & 0xff);
      packed[begin + 2 * i + 1] = static_cast<uint8_t>(half >> 8);
    } else {
      packed[begin + i / 4] |= levels.Encode(HalfToFloat(half)) << (i % 4 * 2);
    }
  }
}

float UnpackValue(const uint8_t* packed, int i, TileFormat format, const Int2Levels& levels) {
  if (format == TileFormat::kFp16) {
    return HalfToFloat(static_cast<uint16_t>(packed[2 * i] | packed[2 * i + 1] << 8));
  }
  return levels.Decode(packed[i / 4] >> (i % 4 * 2) & 3);
}

// Calls visit(row, element of the row, value) for each nonzero, tile by tile.
template <typename Visit>
void ForEachNonzero(const Tiles& tiles, Visit visit) {
  const TileSpec& spec = tiles.spec;
  const uint8_t* packed = tiles.packed.data();
  size_t index = 0;
  for (int64_t row = 0; row < spec.batch; ++row) {
    for (int64_t tile = 0; tile < spec.tiles_per_row(); ++tile, ++index) {
      Int2Levels levels;
      if (spec.format == TileFormat::kInt2Tile) levels = {tiles.scales[index], tiles.zeros[index]};
      if (spec.format == TileFormat::kInt2Head) levels = HeadLevels(tiles, row);
      const TileElements elements = LocateTile(spec, tile);
      int count = 0;
      for (uint64_t rest = tiles.bitmaps[index]; rest != 0; ++count) {
        const int i = std::countl_zero(rest);
        rest &= ~TileBit(i);
        visit(row, elements.start + i * elements.stride,
              UnpackValue(packed, count, spec.format, levels));
      }
      packed += PackedTileBytes(spec.format, count);
    }
  }
}

// Products take values as float16, as the original kernels do for their tensor cores; a level may
// lie beyond its tile's values, and so beyond float16.
double AsFactor(float value) { return HalfToFloat(FloatToHalfSaturating(value)); }

std::vector<float> RoundToFloat(const std::vector<double>& sums) {
  return std::vector<float>(sums.begin(), sums.end());
}

}  // namespace

absl::Status ValidateDense(const TileSpec& spec, absl::Span<const uint16_t> dense) {
  KVATTEND_RETURN_IF_ERROR(ValidateTileSpec(spec));
  if (static_cast<int64_t>(dense.size()) != spec.dense_elements()) {
    return absl::InvalidArgumentError(
        absl::StrCat("dense: expected ", spec.dense_elements(), " values, got ", dense.size()));
  }
  const auto bad = std::find_if_not(dense.begin(), dense.end(), IsFiniteHalf);
  if (bad == dense.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("dense[", bad - dense.begin(), "]: not finite"));
}

absl::Status ValidateOperand(const Tiles& tiles, TileRole role, absl::string_view operand,
                             size_t size, int64_t expected_per_row) {
  KVATTEND_RETURN_IF_ERROR(ValidateTiles(tiles));
  if (tiles.spec.role != role) {
    return absl::InvalidArgumentError(absl::StrCat(
        "role: expected ", role == TileRole::kKey ? "key" : "value", " tiles, got the other"));
  }
  const int64_t expected = tiles.spec.batch * expected_per_row;
  if (static_cast<int64_t>(size) == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(operand, ": expected ", expected, " values, got ", size));
}

absl::StatusOr<Tiles> CompressTiles(const TileSpec& spec, absl::Span<const uint16_t> dense) {
  KVATTEND_RETURN_IF_ERROR(ValidateDense(spec, dense));
  const int64_t row_elements = spec.num_tokens * spec.head_dim;
  Tiles tiles;
  tiles.spec = spec;
  if (spec.format == TileFormat::kInt2Head) tiles.head_scales = MakeHeadScales(spec, dense);
  for (int64_t row = 0; row < spec.batch; ++row) {
    for (int64_t tile = 0; tile < spec.tiles_per_row(); ++tile) {
      const Nonzeros nonzeros =
          GatherNonzeros(dense.subspan(row * row_elements, row_elements), LocateTile(spec, tile));
      Int2Levels levels;
      if (spec.format == TileFormat::kInt2Head) levels = HeadLevels(tiles, row);
      if (spec.format == TileFormat::kInt2Tile) {
        levels = SpanLevels(nonzeros);
        tiles.scales.push_back(levels.scale);
        tiles.zeros.push_back(levels.zero);
      }
      tiles.bitmaps.push_back(nonzeros.bitmap);
      PackTile(nonzeros, spec.format, levels, tiles.packed);
    }
  }
  tiles.offsets = MakeTileOffsets(spec, tiles.bitmaps).offsets;
  return tiles;
}

absl::StatusOr<std::vector<float>> DecompressTiles(const Tiles& tiles) {
  KVATTEND_RETURN_IF_ERROR(ValidateTiles(tiles));
  const TileSpec& spec = tiles.spec;
  std::vector<float> dense(spec.dense_elements(), 0.0f);
  ForEachNonzero(tiles, [&](int64_t row, int64_t element, float value) {
    dense[row * spec.num_tokens * spec.head_dim + element] = value;
  });
  return dense;
}

absl::StatusOr<std::vector<float>> TileScores(const Tiles& key_tiles,
                                              absl::Span<const uint16_t> queries) {
  const TileSpec& spec = key_tiles.spec;
  KVATTEND_RETURN_IF_ERROR(
      ValidateOperand(key_tiles, TileRole::kKey, "queries", queries.size(), spec.head_dim));
  std::vector<double> sums(spec.batch * spec.num_tokens, 0.0);
  ForEachNonzero(key_tiles, [&](int64_t row, int64_t element, float value) {
    const int64_t token = element / spec.head_dim;
    const int64_t channel = element % spec.head_dim;
    sums[row * spec.num_tokens + token] +=
        AsFactor(value) * HalfToFloat(queries[row * spec.head_dim + channel]);
  });
  return RoundToFloat(sums);
}

absl::StatusOr<std::vector<float>> TileOutputs(const Tiles& value_tiles,
                                               absl::Span<const float> weights) {
  const TileSpec& spec = value_tiles.spec;
  KVATTEND_RETURN_IF_ERROR(
      ValidateOperand(value_tiles, TileRole::kValue, "weights", weights.size(), spec.num_tokens));
  std::vector<double> sums(spec.batch * spec.head_dim, 0.0);
  ForEachNonzero(value_tiles, [&](int64_t row, int64_t element, float value) {
    const int64_t token = element / spec.head_dim;
    const int64_t channel = element % spec.head_dim;
    sums[row * spec.head_dim + channel] += AsFactor(value) * weights[row * spec.num_tokens + token];
  });
  return RoundToFloat(sums);
}

}  // namespace kvattend::mustafar
