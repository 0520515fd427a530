// kvattend.v1.CodecService's requests, as jobs for a backend.
//
// Parse* checks a request and copies its tensors once, into memory that the job owns; Run does the
// work; TakeResponse makes the answer. A job belongs to one thread at a time. Parse errors are
// INVALID_ARGUMENT naming the field, or RESOURCE_EXHAUSTED RESPONSE_TOO_LARGE.
#ifndef KVATTEND_SERVER_RPC_CODEC_JOB_H_
#define KVATTEND_SERVER_RPC_CODEC_JOB_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kvattend/v1/codec_service.pb.h"
#include "server/rpc/limits.h"
#include "server/rpc/tensor_data.h"

namespace kvattend {

// What metrics call the codec of the reference formats.
inline constexpr char kTilesCodec[] = "mustafar";

template <typename Response>
class CodecJob {
 public:
  virtual ~CodecJob() = default;
  // For metrics: a preset's name, "custom" or kTilesCodec.
  virtual std::string codec_name() const = 0;
  virtual absl::Status Run(Backend& backend) = 0;
  // Once, after Run has succeeded.
  virtual Response TakeResponse() = 0;
};
using CompressJob = CodecJob<v1::CompressResponse>;
using DecompressJob = CodecJob<v1::DecompressResponse>;

absl::StatusOr<std::unique_ptr<CompressJob>> ParseCompress(const v1::CompressRequest& request,
                                                           const Limits& limits,
                                                           StagingAllocator allocate);
absl::StatusOr<std::unique_ptr<DecompressJob>> ParseDecompress(const v1::DecompressRequest& request,
                                                               const Limits& limits,
                                                               StagingAllocator allocate);

}  // namespace kvattend

#endif  // KVATTEND_SERVER_RPC_CODEC_JOB_H_
