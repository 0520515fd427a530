#include "kernels/cuda/cuda_tiles.h"

#include <utility>

#include "kernels/base/status_macros.h"
#include "kernels/cuda/tiles.h"
#include "kernels/mustafar/tile_codec.h"

namespace kvattend::cuda {
namespace {

using mustafar::TileFormat;
using mustafar::TileRole;
using mustafar::Tiles;
using mustafar::TileSpec;

TileShape ShapeOf(const TileSpec& spec) {
  const TileKind kind = spec.format == TileFormat::kFp16       ? TileKind::kFp16
                        : spec.format == TileFormat::kInt2Tile ? TileKind::kInt2Tile
                                                               : TileKind::kInt2Head;
  return {.kind = kind,
          .is_key = spec.role == TileRole::kKey,
          .batch = spec.batch,
          .num_tokens = spec.num_tokens,
          .head_dim = spec.head_dim,
          .num_heads = spec.num_heads};
}

size_t UnitBytes(const TileShape& shape) { return shape.kind == TileKind::kInt2Head ? 1 : 4; }

template <typename T>
absl::StatusOr<DeviceBuffer> NewArray(size_t count) {
  return DeviceBuffer::Create(count * sizeof(T));
}
template <typename T>
absl::StatusOr<DeviceBuffer> ToDevice(const Stream& stream, absl::Span<const T> values) {
  KVATTEND_ASSIGN_OR_RETURN(DeviceBuffer buffer, NewArray<T>(values.size()));
  KVATTEND_RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(
      buffer.data(), values.data(), values.size() * sizeof(T), cudaMemcpyDefault, stream.get()));
  return buffer;
}
template <typename T>
absl::StatusOr<std::vector<T>> ToHost(const Stream& stream, const DeviceBuffer& buffer,
                                      size_t count) {
  std::vector<T> values(count);
  KVATTEND_RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(values.data(), buffer.data(), count * sizeof(T),
                                                cudaMemcpyDefault, stream.get()));
  KVATTEND_RETURN_IF_ERROR(stream.Synchronize());
  return values;
}

// Arrays of tiles on the device.
struct DeviceTiles {
  // All but `packed`; those that the format lacks are empty.
  static absl::StatusOr<DeviceTiles> Create(const TileShape& shape) {
    const auto num_tiles = static_cast<size_t>(shape.batch * shape.tiles_per_row());
    const auto batch = static_cast<size_t>(shape.batch);
    const size_t num_levels = shape.kind == TileKind::kInt2Tile ? num_tiles : 0;
    DeviceTiles tiles;
    KVATTEND_ASSIGN_OR_RETURN(tiles.bitmaps, NewArray<uint64_t>(num_tiles));
    KVATTEND_ASSIGN_OR_RETURN(tiles.offsets, NewArray<uint32_t>(num_tiles + batch));
    KVATTEND_ASSIGN_OR_RETURN(tiles.row_offsets, NewArray<uint32_t>(batch + 1));
    KVATTEND_ASSIGN_OR_RETURN(tiles.scales, NewArray<float>(num_levels));
    KVATTEND_ASSIGN_OR_RETURN(tiles.zeros, NewArray<float>(num_levels));
    KVATTEND_ASSIGN_OR_RETURN(tiles.head_scales,
                              NewArray<uint16_t>(static_cast<size_t>(shape.num_heads)));
    return tiles;
  }
  // With the contents of valid tiles.
  static absl::StatusOr<DeviceTiles> From(const Stream& stream, const Tiles& host) {
    DeviceTiles tiles;
    const TileShape shape = ShapeOf(host.spec);
    const auto batch = static_cast<size_t>(shape.batch);
    KVATTEND_ASSIGN_OR_RETURN(tiles.bitmaps, ToDevice<uint64_t>(stream, host.bitmaps));
    KVATTEND_ASSIGN_OR_RETURN(tiles.packed, ToDevice<uint8_t>(stream, host.packed));
    KVATTEND_ASSIGN_OR_RETURN(tiles.scales, ToDevice<float>(stream, host.scales));
    KVATTEND_ASSIGN_OR_RETURN(tiles.zeros, ToDevice<float>(stream, host.zeros));
    KVATTEND_ASSIGN_OR_RETURN(tiles.head_scales, ToDevice<uint16_t>(stream, host.head_scales));
    // They follow from the bitmaps.
    KVATTEND_ASSIGN_OR_RETURN(tiles.offsets, NewArray<uint32_t>(host.bitmaps.size() + batch));
    KVATTEND_ASSIGN_OR_RETURN(tiles.row_offsets, NewArray<uint32_t>(batch + 1));
    KVATTEND_RETURN_IF_CUDA_ERROR(LaunchTileOffsets(shape, tiles.arrays(), stream.get()));
    return tiles;
  }

  TileArrays arrays() const {
    return {.bitmaps = bitmaps.as<uint64_t>(),
            .offsets = offsets.as<uint32_t>(),
            .row_offsets = row_offsets.as<uint32_t>(),
            .packed = packed.as<uint8_t>(),
            .scales = scales.as<float>(),
            .zeros = zeros.as<float>(),
            .head_scales = head_scales.as<uint16_t>()};
  }

  DeviceBuffer bitmaps, offsets, row_offsets, packed, scales, zeros, head_scales;
};

// Offsets as the formats have them, from the device's.
std::vector<uint32_t> FormatOffsets(const TileShape& shape, const std::vector<uint32_t>& offsets,
                                    const std::vector<uint32_t>& row_offsets) {
  // This format's offsets begin at 0 in each row, too.
  if (shape.kind == TileKind::kFp16) return offsets;
  std::vector<uint32_t> result;
  result.reserve(offsets.size());
  auto offset = offsets.begin();
  for (int64_t row = 0; row < shape.batch; ++row, ++offset) {
    for (int64_t tile = 0; tile < shape.tiles_per_row(); ++tile) {
      result.push_back(row_offsets[static_cast<size_t>(row)] + *offset++);
    }
  }
  return result;
}

}  // namespace

absl::StatusOr<Tiles> CompressTiles(const Stream& stream, const TileSpec& spec,
                                    absl::Span<const uint16_t> dense) {
  KVATTEND_RETURN_IF_ERROR(mustafar::ValidateDense(spec, dense));
  const TileShape shape = ShapeOf(spec);
  const auto num_tiles = static_cast<size_t>(shape.batch * shape.tiles_per_row());
  const auto batch = static_cast<size_t>(shape.batch);
  KVATTEND_ASSIGN_OR_RETURN(const DeviceBuffer device_dense, ToDevice(stream, dense));
  KVATTEND_ASSIGN_OR_RETURN(DeviceTiles device, DeviceTiles::Create(shape));
  KVATTEND_RETURN_IF_CUDA_ERROR(
      LaunchDescribeTiles(shape, device_dense.as<uint16_t>(), device.arrays(), stream.get()));
  KVATTEND_ASSIGN_OR_RETURN(const std::vector<uint32_t> row_offsets,
                            ToHost<uint32_t>(stream, device.row_offsets, batch + 1));
  const size_t packed_bytes = row_offsets.back() * UnitBytes(shape);
  KVATTEND_ASSIGN_OR_RETURN(device.packed, NewArray<uint8_t>(packed_bytes));
  KVATTEND_RETURN_IF_CUDA_ERROR(
      LaunchPackTiles(shape, device_dense.as<uint16_t>(), device.arrays(), stream.get()));

  Tiles tiles{.spec = spec};
  const bool has_levels = spec.format == TileFormat::kInt2Tile;
  KVATTEND_ASSIGN_OR_RETURN(const std::vector<uint32_t> offsets,
                            ToHost<uint32_t>(stream, device.offsets, num_tiles + batch));
  tiles.offsets = FormatOffsets(shape, offsets, row_offsets);
  KVATTEND_ASSIGN_OR_RETURN(tiles.bitmaps, ToHost<uint64_t>(stream, device.bitmaps, num_tiles));
  KVATTEND_ASSIGN_OR_RETURN(tiles.packed, ToHost<uint8_t>(stream, device.packed, packed_bytes));
  KVATTEND_ASSIGN_OR_RETURN(tiles.scales,
                            ToHost<float>(stream, device.scales, has_levels ? num_tiles : 0));
  KVATTEND_ASSIGN_OR_RETURN(tiles.zeros,
                            ToHost<float>(stream, device.zeros, has_levels ? num_tiles : 0));
  KVATTEND_ASSIGN_OR_RETURN(
      tiles.head_scales,
      ToHost<uint16_t>(stream, device.head_scales, static_cast<size_t>(spec.num_heads)));
  return tiles;
}

absl::StatusOr<std::vector<float>> DecompressTiles(const Stream& stream, const Tiles& tiles) {
  KVATTEND_RETURN_IF_ERROR(mustafar::ValidateTiles(tiles));
  const auto size = static_cast<size_t>(tiles.spec.dense_elements());
  KVATTEND_ASSIGN_OR_RETURN(const DeviceTiles device, DeviceTiles::From(stream, tiles));
  KVATTEND_ASSIGN_OR_RETURN(const DeviceBuffer dense, NewArray<float>(size));
  KVATTEND_RETURN_IF_CUDA_ERROR(
      LaunchUnpackTiles(ShapeOf(tiles.spec), device.arrays(), dense.as<float>(), stream.get()));
  return ToHost<float>(stream, dense, size);
}

absl::StatusOr<std::vector<float>> TileScores(const Stream& stream, const Tiles& key_tiles,
                                              absl::Span<const uint16_t> queries) {
  const TileSpec& spec = key_tiles.spec;
  KVATTEND_RETURN_IF_ERROR(mustafar::ValidateOperand(key_tiles, TileRole::kKey, "queries",
                                                     queries.size(), spec.head_dim));
  const auto size = static_cast<size_t>(spec.batch * spec.num_tokens);
  KVATTEND_ASSIGN_OR_RETURN(const DeviceTiles device, DeviceTiles::From(stream, key_tiles));
  KVATTEND_ASSIGN_OR_RETURN(const DeviceBuffer device_queries, ToDevice(stream, queries));
  KVATTEND_ASSIGN_OR_RETURN(const DeviceBuffer scores, NewArray<float>(size));
  KVATTEND_RETURN_IF_CUDA_ERROR(LaunchTileScores(ShapeOf(spec), device.arrays(),
                                                 device_queries.as<uint16_t>(), scores.as<float>(),
                                                 stream.get()));
  return ToHost<float>(stream, scores, size);
}

absl::StatusOr<std::vector<float>> TileOutputs(const Stream& stream, const Tiles& value_tiles,
                                               absl::Span<const float> weights) {
  const TileSpec& spec = value_tiles.spec;
  KVATTEND_RETURN_IF_ERROR(mustafar::ValidateOperand(value_tiles, TileRole::kValue, "weights",
                                                     weights.size(), spec.num_tokens));
  const auto size = static_cast<size_t>(spec.batch * spec.head_dim);
  const int64_t num_runs = (spec.num_tokens + kOutputRunTokens - 1) / kOutputRunTokens;
  KVATTEND_ASSIGN_OR_RETURN(const DeviceTiles device, DeviceTiles::From(stream, value_tiles));
  KVATTEND_ASSIGN_OR_RETURN(const DeviceBuffer device_weights, ToDevice(stream, weights));
  KVATTEND_ASSIGN_OR_RETURN(const DeviceBuffer scratch,
                            NewArray<double>(size * static_cast<size_t>(num_runs)));
  KVATTEND_ASSIGN_OR_RETURN(const DeviceBuffer outputs, NewArray<float>(size));
  KVATTEND_RETURN_IF_CUDA_ERROR(LaunchTileOutputs(ShapeOf(spec), device.arrays(),
                                                  device_weights.as<float>(), scratch.as<double>(),
                                                  outputs.as<float>(), stream.get()));
  return ToHost<float>(stream, outputs, size);
}

}  // namespace kvattend::cuda
