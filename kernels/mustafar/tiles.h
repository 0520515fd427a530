// The data of MUSTAFAR's formats and of their 2-bit variants. Specified in docs/formats.md.
//
// A tile is 64 scalars of a [batch, num_tokens, head_dim] tensor and one 64-bit bitmap of those
// that are not zero (-0.0 is), element 0 at bit 63. Key tiles are one channel x 64 tokens: tile t
// of a batch row is channel t % head_dim of token block t / head_dim. Value tiles are one token x
// 64 channels: within a block of 64 tokens all tokens of channels 0-63, then of 64-127, and so on.
//
// Source: MUSTAFAR, https://arxiv.org/abs/2505.22913.
#ifndef KVATTEND_KERNELS_MUSTAFAR_TILES_H_
#define KVATTEND_KERNELS_MUSTAFAR_TILES_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"

namespace kvattend::mustafar {

inline constexpr int kTileElements = 64;

enum class TileFormat {
  kFp16,      // float16 values, each tile padded with zeros to a multiple of 8
  kInt2Tile,  // 2-bit codes in int32 words, float32 scale and zero point a tile
  kInt2Head,  // 2-bit codes in bytes, one float16 scale an attention head
};
enum class TileRole { kKey, kValue };

struct TileSpec {
  TileFormat format = TileFormat::kFp16;
  TileRole role = TileRole::kKey;
  int64_t batch = 0;
  // Multiples of 64.
  int64_t num_tokens = 0;
  int64_t head_dim = 0;
  // kInt2Head: batch row b belongs to head b % num_heads, which divides batch. 0 otherwise.
  int num_heads = 0;

  int64_t tiles_per_row() const { return num_tokens * head_dim / kTileElements; }
  int64_t dense_elements() const { return batch * num_tokens * head_dim; }
};

struct Tiles {
  TileSpec spec;
  // [batch, tiles].
  std::vector<uint64_t> bitmaps;
  // kFp16: accum_counts [batch, tiles + 1], in units of two values, from 0 in each row.
  // kInt2Tile: [batch, tiles], 32-bit words from the start of `packed`.
  // kInt2Head: [batch, tiles], bytes from the start of `packed`.
  std::vector<uint32_t> offsets;
  // kFp16: the rows' float16 values one row after the other. kInt2Tile: int32 words, little-endian.
  // kInt2Head: bytes.
  std::vector<uint8_t> packed;
  // float32 [batch, tiles]; kInt2Tile only.
  std::vector<float> scales;
  std::vector<float> zeros;
  // float16 [num_heads]; kInt2Head only.
  std::vector<uint16_t> head_scales;

  // As the reference documents count: all arrays above.
  size_t total_bytes() const {
    return bitmaps.size() * sizeof(uint64_t) + offsets.size() * sizeof(uint32_t) + packed.size() +
           (scales.size() + zeros.size()) * sizeof(float) + head_scales.size() * sizeof(uint16_t);
  }
};

// INVALID_ARGUMENT naming the field where a dimension is not positive, not a multiple of 64, or the
// tensor is too large for 32-bit offsets.
absl::Status ValidateTileSpec(const TileSpec& spec);

// INVALID_ARGUMENT where array sizes, offsets and bitmaps contradict each other, or scales are not
// finite: everything that decompression relies on. For tiles from outside.
absl::Status ValidateTiles(const Tiles& tiles);

}  // namespace kvattend::mustafar

#endif  // KVATTEND_KERNELS_MUSTAFAR_TILES_H_
