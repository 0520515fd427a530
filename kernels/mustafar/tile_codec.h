// Compression to MUSTAFAR's formats and back, and attention's two products on compressed tiles: the
// portable implementation, which is the reference for every backend.
//
// Results do not depend on the machine: products take the decompressed values rounded to float16,
// as the original kernels do (saturating), are summed in float64 in the order of tiles, and rounded
// once. Not for large caches: one thread, no SIMD.
//
// Thread-safe: pure functions.
#ifndef KVATTEND_KERNELS_MUSTAFAR_TILE_CODEC_H_
#define KVATTEND_KERNELS_MUSTAFAR_TILE_CODEC_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kernels/mustafar/tiles.h"

namespace kvattend::mustafar {

// INVALID_ARGUMENT where ValidateTileSpec refuses the spec, the size of `dense` is not the spec's,
// or a value is not finite.
absl::Status ValidateDense(const TileSpec& spec, absl::Span<const uint16_t> dense);

// INVALID_ARGUMENT where ValidateTiles refuses the tiles, they are of the other role, or `size`, of
// what `operand` names, is not batch * expected_per_row.
absl::Status ValidateOperand(const Tiles& tiles, TileRole role, absl::string_view operand,
                             size_t size, int64_t expected_per_row);

// `dense` is float16 [batch, num_tokens, head_dim]. Zeros are left out, nothing is pruned.
// INVALID_ARGUMENT as ValidateDense.
absl::StatusOr<Tiles> CompressTiles(const TileSpec& spec, absl::Span<const uint16_t> dense);

// The dense tensor, float32 [batch, num_tokens, head_dim]. A -0.0 comes back as 0.0.
// INVALID_ARGUMENT where ValidateTiles refuses the tiles; so do the functions below.
absl::StatusOr<std::vector<float>> DecompressTiles(const Tiles& tiles);

// q.k, float32 [batch, num_tokens], unscaled, of one float16 query [batch, head_dim] a batch row.
// INVALID_ARGUMENT for value tiles, or queries of another size.
absl::StatusOr<std::vector<float>> TileScores(const Tiles& key_tiles,
                                              absl::Span<const uint16_t> queries);

// Sums of the tokens' values times their weights, float32 [batch, head_dim], of float32 weights
// [batch, num_tokens]. INVALID_ARGUMENT for key tiles, or weights of another size.
absl::StatusOr<std::vector<float>> TileOutputs(const Tiles& value_tiles,
                                               absl::Span<const float> weights);

}  // namespace kvattend::mustafar

#endif  // KVATTEND_KERNELS_MUSTAFAR_TILE_CODEC_H_
