// Where the elements of a tile lie in the dense tensor and in the packed array. For the sources of
// this folder only.
#ifndef KVATTEND_KERNELS_MUSTAFAR_TILE_LAYOUT_H_
#define KVATTEND_KERNELS_MUSTAFAR_TILE_LAYOUT_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kernels/mustafar/tiles.h"

namespace kvattend::mustafar {

// Element i of a tile is element start + i * stride of its batch row [num_tokens, head_dim].
struct TileElements {
  int64_t start = 0;
  int64_t stride = 0;
};
TileElements LocateTile(const TileSpec& spec, int64_t tile);

// Bit of element i in a bitmap.
constexpr uint64_t TileBit(int i) { return uint64_t{1} << (kTileElements - 1 - i); }

// Bytes that a tile of `count` values takes in the packed array, padding included.
size_t PackedTileBytes(TileFormat format, int count);

struct TileOffsets {
  std::vector<uint32_t> offsets;
  size_t packed_bytes = 0;
};
// The offsets that belong to bitmaps [batch, tiles]; see Tiles::offsets.
TileOffsets MakeTileOffsets(const TileSpec& spec, absl::Span<const uint64_t> bitmaps);

// How many offsets MakeTileOffsets gives.
size_t NumTileOffsets(const TileSpec& spec);

}  // namespace kvattend::mustafar

#endif  // KVATTEND_KERNELS_MUSTAFAR_TILE_LAYOUT_H_
