// kvattend.v1.Tiles to kernels/mustafar's, and back.
//
// Thread-safe: pure functions. Errors are INVALID_ARGUMENT and name the field.
#ifndef KVATTEND_SERVER_RPC_TILES_CODEC_H_
#define KVATTEND_SERVER_RPC_TILES_CODEC_H_

#include "absl/status/statusor.h"
#include "kernels/mustafar/tiles.h"
#include "kvattend/v1/codec_service.pb.h"

namespace kvattend {

// The spec of a dense tensor [batch, num_tokens, head_dim] to be compressed. SHAPE_MISMATCH,
// VALUE_OUT_OF_RANGE.
absl::StatusOr<mustafar::TileSpec> ParseTileSpec(const v1::TileOptions& options,
                                                 mustafar::TileRole role, const v1::Tensor& tensor);

// Tiles from outside, consistent with themselves. CORRUPT_BLOCK where they are not.
absl::StatusOr<mustafar::Tiles> ParseTiles(const v1::Tiles& proto);

v1::Tiles ToProto(const mustafar::Tiles& tiles);

}  // namespace kvattend

#endif  // KVATTEND_SERVER_RPC_TILES_CODEC_H_
