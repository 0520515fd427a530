// Jobs of CodecService in the formats of MUSTAFAR.
#ifndef KVATTEND_SERVER_RPC_TILES_JOB_H_
#define KVATTEND_SERVER_RPC_TILES_JOB_H_

#include <memory>

#include "absl/status/statusor.h"
#include "server/rpc/codec_job.h"

namespace kvattend {

absl::StatusOr<std::unique_ptr<CompressJob>> ParseTilesCompress(const v1::CompressRequest& request,
                                                                const Limits& limits);

absl::StatusOr<std::unique_ptr<DecompressJob>> ParseTilesDecompress(const v1::Tiles& tiles,
                                                                    v1::DataType output_dtype,
                                                                    const Limits& limits);

}  // namespace kvattend

#endif  // KVATTEND_SERVER_RPC_TILES_JOB_H_
