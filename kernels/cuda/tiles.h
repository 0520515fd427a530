// MUSTAFAR's formats on the GPU; kernels/mustafar/tiles.h says what the arrays hold.
//
// A thread does a tile, and neighbouring threads neighbouring tiles. Pointers are device memory.
// Asynchronous on `stream`; arrays must live until the work is done.
#ifndef KVATTEND_KERNELS_CUDA_TILES_H_
#define KVATTEND_KERNELS_CUDA_TILES_H_

#include <cuda_runtime_api.h>

#include <cstdint>

namespace kvattend::cuda {

// As mustafar::TileFormat.
enum class TileKind { kFp16, kInt2Tile, kInt2Head };

struct TileShape {
  TileKind kind = TileKind::kFp16;
  bool is_key = false;
  int64_t batch = 0;
  int64_t num_tokens = 0;
  int64_t head_dim = 0;
  // kInt2Head only.
  int64_t num_heads = 0;

  int64_t tiles_per_row() const { return num_tokens * head_dim / 64; }
};

// Tiles and what belongs to them. Offsets are [batch, tiles + 1] for all formats here: exclusive
// prefixes within a row, in units of 4 bytes (kInt2Head: 1 byte), the row's total last.
struct TileArrays {
  uint64_t* bitmaps = nullptr;
  uint32_t* offsets = nullptr;
  // [batch + 1]: where rows begin in `packed`, in the same units; the total last.
  uint32_t* row_offsets = nullptr;
  uint8_t* packed = nullptr;
  float* scales = nullptr;
  float* zeros = nullptr;
  uint16_t* head_scales = nullptr;
};

// From `dense`, float16 [batch, num_tokens, head_dim]: everything but `packed`, whose size is then
// in row_offsets[batch].
cudaError_t LaunchDescribeTiles(const TileShape& shape, const uint16_t* dense,
                                const TileArrays& tiles, cudaStream_t stream);
// Offsets alone, from the bitmaps.
cudaError_t LaunchTileOffsets(const TileShape& shape, const TileArrays& tiles, cudaStream_t stream);
// Then `packed`.
cudaError_t LaunchPackTiles(const TileShape& shape, const uint16_t* dense, const TileArrays& tiles,
                            cudaStream_t stream);

// To float32 [batch, num_tokens, head_dim].
cudaError_t LaunchUnpackTiles(const TileShape& shape, const TileArrays& tiles, float* dense,
                              cudaStream_t stream);

// Scores [batch, num_tokens] of float16 queries [batch, head_dim].
cudaError_t LaunchTileScores(const TileShape& shape, const TileArrays& tiles,
                             const uint16_t* queries, float* scores, cudaStream_t stream);

// Tokens whose products a thread adds up before sums of such runs are added.
inline constexpr int64_t kOutputRunTokens = 1024;
// Outputs [batch, head_dim] of float32 weights [batch, num_tokens]. `scratch`: float64 [batch,
// runs, head_dim], runs being num_tokens / kOutputRunTokens, rounded up.
cudaError_t LaunchTileOutputs(const TileShape& shape, const TileArrays& tiles, const float* weights,
                              double* scratch, float* outputs, cudaStream_t stream);

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_TILES_H_
