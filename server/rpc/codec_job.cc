#include "server/rpc/codec_job.h"

#include "kernels/base/status_macros.h"
#include "server/rpc/canonical_job.h"
#include "server/rpc/tiles_job.h"

namespace kvattend {

absl::StatusOr<std::unique_ptr<CompressJob>> ParseCompress(const v1::CompressRequest& request,
                                                           const Limits& limits,
                                                           StagingAllocator allocate) {
  switch (request.options_case()) {
    case v1::CompressRequest::kCanonical:
      return ParseCanonicalCompress(request, limits, allocate);
    case v1::CompressRequest::kTiles:
      return ParseTilesCompress(request, limits);
    case v1::CompressRequest::OPTIONS_NOT_SET:
      break;
  }
  return InvalidField("MISSING_FIELD", {"options"}, "expected canonical or tiles, found neither");
}

absl::StatusOr<std::unique_ptr<DecompressJob>> ParseDecompress(const v1::DecompressRequest& request,
                                                               const Limits& limits,
                                                               StagingAllocator allocate) {
  const v1::DataType output_dtype = request.output_dtype() == v1::DATA_TYPE_UNSPECIFIED
                                        ? v1::DATA_TYPE_FLOAT32
                                        : request.output_dtype();
  KVATTEND_RETURN_IF_ERROR(ElementBytes(output_dtype, {"output_dtype"}).status());
  switch (request.source_case()) {
    case v1::DecompressRequest::kCanonical:
      return ParseCanonicalDecompress(request.canonical(), output_dtype, limits, allocate);
    case v1::DecompressRequest::kTiles:
      return ParseTilesDecompress(request.tiles(), output_dtype, limits);
    case v1::DecompressRequest::SOURCE_NOT_SET:
      break;
  }
  return InvalidField("MISSING_FIELD", {"source"}, "expected canonical or tiles, found neither");
}

}  // namespace kvattend
