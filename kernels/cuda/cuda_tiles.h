// The reference formats on the GPU, from and to memory of the host. Results equal those of
// kernels/mustafar/tile_codec.h; sums over more than kOutputRunTokens tokens may differ in
// float64's rounding.
//
// Thread-compatible: one call at a time. Calls return when the work is done. They take device
// memory for their arrays and give it back: RESOURCE_EXHAUSTED where there is not as much.
// INVALID_ARGUMENT as there.
#ifndef KVATTEND_KERNELS_CUDA_CUDA_TILES_H_
#define KVATTEND_KERNELS_CUDA_CUDA_TILES_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/mustafar/tiles.h"

namespace kvattend::cuda {

absl::StatusOr<mustafar::Tiles> CompressTiles(const Stream& stream, const mustafar::TileSpec& spec,
                                              absl::Span<const uint16_t> dense);
absl::StatusOr<std::vector<float>> DecompressTiles(const Stream& stream,
                                                   const mustafar::Tiles& tiles);
absl::StatusOr<std::vector<float>> TileScores(const Stream& stream,
                                              const mustafar::Tiles& key_tiles,
                                              absl::Span<const uint16_t> queries);
absl::StatusOr<std::vector<float>> TileOutputs(const Stream& stream,
                                               const mustafar::Tiles& value_tiles,
                                               absl::Span<const float> weights);

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_CUDA_TILES_H_
