// Every rounding is that of kernels/mustafar/tile_codec.cc: compile without contraction of
// multiply-add.
#include <cuda_fp16.h>

#include "kernels/cuda/gpu_block_layout.h"
#include "kernels/cuda/tiles.h"

namespace kvattend::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTileElements = 64;

__device__ __forceinline__ float ToFloat(uint16_t half) {
  return __half2float(__ushort_as_half(half));
}

// A tile and where its elements lie in the dense tensor.
struct Tile {
  int64_t index;
  int64_t row;
  // Of its row.
  int64_t tile;
  int64_t start;
  int64_t stride;

  __device__ __forceinline__ Tile(const TileShape& shape, int64_t tile_index)
      : index(tile_index),
        row(tile_index / (shape.num_tokens * shape.head_dim / kTileElements)),
        tile(tile_index % (shape.num_tokens * shape.head_dim / kTileElements)) {
    // A block of 64 tokens has head_dim tiles in either role.
    const int64_t first_token = tile / shape.head_dim * kTileElements;
    const int64_t within = tile % shape.head_dim;
    start = row * shape.num_tokens * shape.head_dim;
    if (shape.is_key) {
      start += first_token * shape.head_dim + within;
      stride = shape.head_dim;
    } else {
      start += (first_token + within % kTileElements) * shape.head_dim +
               within / kTileElements * kTileElements;
      stride = 1;
    }
  }
};

__device__ __forceinline__ int64_t TileIndex() {
  return static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
}
__device__ __forceinline__ int64_t NumTiles(const TileShape& shape) {
  return shape.batch * (shape.num_tokens * shape.head_dim / kTileElements);
}

// Units of offsets that a tile of `count` values takes, padding included.
__device__ __forceinline__ uint32_t PackedUnits(TileKind kind, uint32_t count) {
  switch (kind) {
    case TileKind::kFp16:
      return (count + 7) / 8 * 4;
    case TileKind::kInt2Tile:
      return (count + 15) / 16;
    default:
      return (count + 7) / 8 * 2;
  }
}
__device__ __forceinline__ uint32_t UnitBytes(TileKind kind) {
  return kind == TileKind::kInt2Head ? 1 : 4;
}

// Levels of 2-bit codes: (code - zero) * scale.
struct Levels {
  float scale = 0.0f;
  float zero = 0.0f;

  __device__ __forceinline__ uint32_t Encode(float x) const {
    return static_cast<uint32_t>(fminf(fmaxf(floorf(x / scale + zero + 0.5f), 0.0f), 3.0f));
  }
  __device__ __forceinline__ float Decode(uint32_t code) const {
    return (static_cast<float>(code) - zero) * scale;
  }
};
__device__ __forceinline__ Levels LevelsOf(const TileShape& shape, const TileArrays& tiles,
                                           const Tile& tile) {
  if (shape.kind == TileKind::kInt2Tile) return {tiles.scales[tile.index], tiles.zeros[tile.index]};
  if (shape.kind == TileKind::kInt2Head) {
    return {ToFloat(tiles.head_scales[tile.row % shape.num_heads]), 1.5f};
  }
  return {};
}

// Where the packed values of a tile begin.
__device__ __forceinline__ uint8_t* PackedValues(const TileShape& shape, const TileArrays& tiles,
                                                 const Tile& tile) {
  // Rows have one offset more than tiles.
  const uint64_t offset =
      tiles.row_offsets[tile.row] + uint64_t{tiles.offsets[tile.index + tile.row]};
  return tiles.packed + offset * UnitBytes(shape.kind);
}

// The value of a tile's nonzero number `i`.
__device__ __forceinline__ float Value(TileKind kind, const uint8_t* values, const Levels& levels,
                                       int i) {
  if (kind == TileKind::kFp16) return ToFloat(reinterpret_cast<const uint16_t*>(values)[i]);
  return levels.Decode(values[i / 4] >> (i % 4 * 2) & 3);
}

// The largest magnitude of each head's values, as float16 patterns, into `largest`.
__global__ void __launch_bounds__(kThreads)
    HeadMaximumKernel(TileShape shape, const uint16_t* dense, uint32_t* largest) {
  const int64_t row_elements = shape.num_tokens * shape.head_dim;
  const int64_t row = blockIdx.x;
  uint32_t own = 0;
  for (int64_t i = threadIdx.x; i < row_elements; i += kThreads) {
    own = max(own, static_cast<uint32_t>(dense[row * row_elements + i] & 0x7fff));
  }
  own = __reduce_max_sync(~0u, own);
  if (threadIdx.x % kLanes == 0) atomicMax(&largest[row % shape.num_heads], own);
}
__global__ void HeadScaleKernel(TileShape shape, const uint32_t* largest, uint16_t* scales) {
  const int64_t head = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (head >= shape.num_heads) return;
  scales[head] =
      __half_as_ushort(__float2half_rn(ToFloat(static_cast<uint16_t>(largest[head])) / 1.5f));
}

// Bitmaps, and levels of tiles.
__global__ void __launch_bounds__(kThreads)
    DescribeKernel(TileShape shape, const uint16_t* dense, TileArrays tiles) {
  const int64_t index = TileIndex();
  if (index >= NumTiles(shape)) return;
  const Tile tile(shape, index);
  uint64_t bitmap = 0;
  float least = 0.0f;
  float greatest = 0.0f;
  for (int i = 0; i < kTileElements; ++i) {
    const uint16_t half = dense[tile.start + i * tile.stride];
    if ((half & 0x7fff) == 0) continue;
    const float x = ToFloat(half);
    least = bitmap == 0 ? x : fminf(least, x);
    greatest = bitmap == 0 ? x : fmaxf(greatest, x);
    bitmap |= uint64_t{1} << (kTileElements - 1 - i);
  }
  tiles.bitmaps[index] = bitmap;
  if (shape.kind != TileKind::kInt2Tile) return;
  Levels levels;
  if (bitmap != 0) {
    // Where all are equal, code 0 is the value, exactly.
    levels = {least, -1.0f};
    if (least != greatest) {
      levels.scale = (greatest - least) / 3.0f;
      levels.zero = floorf(-least / levels.scale + 0.5f);
    }
  }
  tiles.scales[index] = levels.scale;
  tiles.zeros[index] = levels.zero;
}

// Turns `count` numbers into their exclusive prefix sums, with the total behind them. One thread
// block of kThreads; `get(i)` is read before out[i] is written.
template <typename Get>
__device__ void ExclusiveScan(int64_t count, const Get& get, uint32_t* out) {
  __shared__ uint32_t warps[kThreads / kLanes];
  uint32_t before = 0;
  for (int64_t first = 0; first < count; first += kThreads) {
    const int64_t i = first + threadIdx.x;
    const uint32_t own = i < count ? get(i) : 0;
    uint32_t through = own;
    for (int distance = 1; distance < kLanes; distance *= 2) {
      const uint32_t other = __shfl_up_sync(~0u, through, distance);
      if (threadIdx.x % kLanes >= distance) through += other;
    }
    __syncthreads();
    if (threadIdx.x % kLanes == kLanes - 1) warps[threadIdx.x / kLanes] = through;
    __syncthreads();
    uint32_t total = 0;
    for (int warp = 0; warp < kThreads / kLanes; ++warp) {
      if (warp < static_cast<int>(threadIdx.x) / kLanes) through += warps[warp];
      total += warps[warp];
    }
    if (i < count) out[i] = before + through - own;
    before += total;
  }
  if (threadIdx.x == 0) out[count] = before;
}

// A thread block does a row.
__global__ void __launch_bounds__(kThreads) RowOffsetsKernel(TileShape shape, TileArrays tiles) {
  const int64_t count = shape.num_tokens * shape.head_dim / kTileElements;
  const uint64_t* const bitmaps = tiles.bitmaps + blockIdx.x * count;
  ExclusiveScan(
      count, [&](int64_t i) { return PackedUnits(shape.kind, __popcll(bitmaps[i])); },
      tiles.offsets + blockIdx.x * (count + 1));
}
// Over the rows' totals.
__global__ void __launch_bounds__(kThreads) BatchOffsetsKernel(TileShape shape, TileArrays tiles) {
  const int64_t count = shape.num_tokens * shape.head_dim / kTileElements;
  ExclusiveScan(
      shape.batch, [&](int64_t row) { return tiles.offsets[row * (count + 1) + count]; },
      tiles.row_offsets);
}

__global__ void __launch_bounds__(kThreads)
    PackKernel(TileShape shape, const uint16_t* dense, TileArrays tiles) {
  const int64_t index = TileIndex();
  if (index >= NumTiles(shape)) return;
  const Tile tile(shape, index);
  const Levels levels = LevelsOf(shape, tiles, tile);
  uint8_t* const packed = PackedValues(shape, tiles, tile);
  const uint64_t bitmap = tiles.bitmaps[index];
  int count = 0;
  uint32_t byte = 0;
  for (int i = 0; i < kTileElements; ++i) {
    if ((bitmap >> (kTileElements - 1 - i) & 1) == 0) continue;
    const uint16_t half = dense[tile.start + i * tile.stride];
    if (shape.kind == TileKind::kFp16) {
      reinterpret_cast<uint16_t*>(packed)[count++] = half;
      continue;
    }
    byte |= levels.Encode(ToFloat(half)) << (count % 4 * 2);
    if (++count % 4 == 0) {
      packed[count / 4 - 1] = static_cast<uint8_t>(byte);
      byte = 0;
    }
  }
  // The padding is zeros.
  const uint32_t size_bytes = PackedUnits(shape.kind, count) * UnitBytes(shape.kind);
  if (shape.kind == TileKind::kFp16) {
    for (; count * 2u < size_bytes; ++count) reinterpret_cast<uint16_t*>(packed)[count] = 0;
  } else {
    for (uint32_t at = count / 4; at < size_bytes; ++at, byte = 0) {
      packed[at] = static_cast<uint8_t>(byte);
    }
  }
}

__global__ void __launch_bounds__(kThreads)
    UnpackKernel(TileShape shape, TileArrays tiles, float* dense) {
  const int64_t index = TileIndex();
  if (index >= NumTiles(shape)) return;
  const Tile tile(shape, index);
  const Levels levels = LevelsOf(shape, tiles, tile);
  const uint8_t* const packed = PackedValues(shape, tiles, tile);
  const uint64_t bitmap = tiles.bitmaps[index];
  int count = 0;
  for (int i = 0; i < kTileElements; ++i) {
    const bool kept = (bitmap >> (kTileElements - 1 - i) & 1) != 0;
    dense[tile.start + i * tile.stride] = kept ? Value(shape.kind, packed, levels, count++) : 0.0f;
  }
}

// Products take values as float16, as the original kernels do for their tensor cores.
__device__ __forceinline__ double AsFactor(float value) {
  return __half2float(__float2half_rn(fminf(fmaxf(value, -65504.0f), 65504.0f)));
}

// What element `i` of a tile is as a factor; 0 where it has none.
__device__ __forceinline__ double Factor(const TileShape& shape, const TileArrays& tiles,
                                         const Tile& tile, int i) {
  const uint64_t bitmap = tiles.bitmaps[tile.index];
  const uint64_t through = bitmap >> (kTileElements - 1 - i);
  if ((through & 1) == 0) return 0.0;
  return AsFactor(Value(shape.kind, PackedValues(shape, tiles, tile), LevelsOf(shape, tiles, tile),
                        __popcll(through) - 1));
}

// A thread block does 64 tokens, a thread one of them, over the channels in order.
__global__ void __launch_bounds__(kTileElements)
    ScoresKernel(TileShape shape, TileArrays tiles, const uint16_t* queries, float* scores) {
  const int64_t blocks_a_row = shape.num_tokens / kTileElements;
  const int64_t row = blockIdx.x / blocks_a_row;
  double sum = 0.0;
  for (int64_t channel = 0; channel < shape.head_dim; ++channel) {
    const Tile tile(shape, blockIdx.x * shape.head_dim + channel);
    sum +=
        Factor(shape, tiles, tile, threadIdx.x) * ToFloat(queries[row * shape.head_dim + channel]);
  }
  scores[static_cast<int64_t>(blockIdx.x) * kTileElements + threadIdx.x] = static_cast<float>(sum);
}

// A thread block does 64 channels over a run of tokens, a thread one of them.
__global__ void __launch_bounds__(kTileElements)
    OutputRunsKernel(TileShape shape, TileArrays tiles, const float* weights, int64_t num_runs,
                     double* sums) {
  const int64_t groups = shape.head_dim / kTileElements;
  const int64_t group = blockIdx.x % groups;
  const int64_t run = blockIdx.x / groups % num_runs;
  const int64_t row = blockIdx.x / groups / num_runs;
  const int64_t tiles_a_row = shape.num_tokens * shape.head_dim / kTileElements;
  const int64_t end = min((run + 1) * kOutputRunTokens, shape.num_tokens);
  double sum = 0.0;
  for (int64_t token = run * kOutputRunTokens; token < end; ++token) {
    const int64_t tile_of_row =
        token / kTileElements * shape.head_dim + group * kTileElements + token % kTileElements;
    const Tile tile(shape, row * tiles_a_row + tile_of_row);
    sum += Factor(shape, tiles, tile, threadIdx.x) * weights[row * shape.num_tokens + token];
  }
  sums[(row * num_runs + run) * shape.head_dim + group * kTileElements + threadIdx.x] = sum;
}
__global__ void __launch_bounds__(kThreads)
    OutputSumsKernel(TileShape shape, int64_t num_runs, const double* sums, float* outputs) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= shape.batch * shape.head_dim) return;
  const int64_t row = i / shape.head_dim;
  double sum = 0.0;
  for (int64_t run = 0; run < num_runs; ++run) {
    sum += sums[(row * num_runs + run) * shape.head_dim + i % shape.head_dim];
  }
  outputs[i] = static_cast<float>(sum);
}

unsigned BlocksFor(int64_t threads) {
  return static_cast<unsigned>((threads + kThreads - 1) / kThreads);
}

}  // namespace

cudaError_t LaunchTileOffsets(const TileShape& shape, const TileArrays& tiles,
                              cudaStream_t stream) {
  RowOffsetsKernel<<<static_cast<unsigned>(shape.batch), kThreads, 0, stream>>>(shape, tiles);
  BatchOffsetsKernel<<<1, kThreads, 0, stream>>>(shape, tiles);
  return cudaGetLastError();
}

cudaError_t LaunchDescribeTiles(const TileShape& shape, const uint16_t* dense,
                                const TileArrays& tiles, cudaStream_t stream) {
  if (shape.kind == TileKind::kInt2Head) {
    // The offsets' memory is free until they are made; it has more than a word for each head.
    uint32_t* const largest = tiles.offsets;
    const cudaError_t error = cudaMemsetAsync(
        largest, 0, static_cast<size_t>(shape.num_heads) * sizeof(uint32_t), stream);
    if (error != cudaSuccess) return error;
    HeadMaximumKernel<<<static_cast<unsigned>(shape.batch), kThreads, 0, stream>>>(shape, dense,
                                                                                   largest);
    HeadScaleKernel<<<BlocksFor(shape.num_heads), kThreads, 0, stream>>>(shape, largest,
                                                                         tiles.head_scales);
  }
  DescribeKernel<<<BlocksFor(shape.batch * shape.tiles_per_row()), kThreads, 0, stream>>>(
      shape, dense, tiles);
  return LaunchTileOffsets(shape, tiles, stream);
}

cudaError_t LaunchPackTiles(const TileShape& shape, const uint16_t* dense, const TileArrays& tiles,
                            cudaStream_t stream) {
  PackKernel<<<BlocksFor(shape.batch * shape.tiles_per_row()), kThreads, 0, stream>>>(shape, dense,
                                                                                      tiles);
  return cudaGetLastError();
}

cudaError_t LaunchUnpackTiles(const TileShape& shape, const TileArrays& tiles, float* dense,
                              cudaStream_t stream) {
  UnpackKernel<<<BlocksFor(shape.batch * shape.tiles_per_row()), kThreads, 0, stream>>>(
      shape, tiles, dense);
  return cudaGetLastError();
}

cudaError_t LaunchTileScores(const TileShape& shape, const TileArrays& tiles,
                             const uint16_t* queries, float* scores, cudaStream_t stream) {
  const int64_t blocks = shape.batch * shape.num_tokens / kTileElements;
  ScoresKernel<<<static_cast<unsigned>(blocks), kTileElements, 0, stream>>>(shape, tiles, queries,
                                                                            scores);
  return cudaGetLastError();
}

cudaError_t LaunchTileOutputs(const TileShape& shape, const TileArrays& tiles, const float* weights,
                              double* scratch, float* outputs, cudaStream_t stream) {
  const int64_t num_runs = (shape.num_tokens + kOutputRunTokens - 1) / kOutputRunTokens;
  const int64_t blocks = shape.batch * num_runs * (shape.head_dim / kTileElements);
  OutputRunsKernel<<<static_cast<unsigned>(blocks), kTileElements, 0, stream>>>(
      shape, tiles, weights, num_runs, scratch);
  OutputSumsKernel<<<BlocksFor(shape.batch * shape.head_dim), kThreads, 0, stream>>>(
      shape, num_runs, scratch, outputs);
  return cudaGetLastError();
}

}  // namespace kvattend::cuda
