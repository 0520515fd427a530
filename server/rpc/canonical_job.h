// Jobs of CodecService in the canonical format, version 1.
#ifndef KVATTEND_SERVER_RPC_CANONICAL_JOB_H_
#define KVATTEND_SERVER_RPC_CANONICAL_JOB_H_

#include <memory>

#include "absl/status/statusor.h"
#include "server/rpc/codec_job.h"

namespace kvattend {

absl::StatusOr<std::unique_ptr<CompressJob>> ParseCanonicalCompress(
    const v1::CompressRequest& request, const Limits& limits, StagingAllocator allocate);

absl::StatusOr<std::unique_ptr<DecompressJob>> ParseCanonicalDecompress(
    const v1::CanonicalBlocks& blocks, v1::DataType output_dtype, const Limits& limits,
    StagingAllocator allocate);

}  // namespace kvattend

#endif  // KVATTEND_SERVER_RPC_CANONICAL_JOB_H_
