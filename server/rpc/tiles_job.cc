#include "server/rpc/tiles_job.h"

#include <optional>
#include <utility>
#include <vector>

#include "kernels/base/status_macros.h"
#include "server/rpc/tiles_codec.h"

namespace kvattend {
namespace {

using mustafar::TileRole;
using mustafar::Tiles;
using mustafar::TileSpec;

struct DenseTensor {
  TileSpec spec;
  // float16 [batch, num_tokens, head_dim].
  std::vector<uint16_t> halves;
};

absl::StatusOr<DenseTensor> ParseDense(const v1::TileOptions& options, TileRole role,
                                       absl::string_view field, const v1::Tensor& tensor) {
  DenseTensor dense;
  KVATTEND_ASSIGN_OR_RETURN(dense.spec, ParseTileSpec(options, role, tensor));
  KVATTEND_RETURN_IF_ERROR(CheckTensor(tensor, field));
  dense.halves.resize(dense.spec.dense_elements());
  const std::optional<int64_t> bad = CopyToHalf(tensor.dtype(), tensor.data(), dense.halves.data());
  if (bad.has_value()) {
    // The batch rows of a tile tensor hold one head each.
    const int64_t row_elements = dense.spec.num_tokens * dense.spec.head_dim;
    return NonFiniteInput(field, *bad % row_elements, 1, dense.spec.head_dim)
        .With("batch", *bad / row_elements);
  }
  return dense;
}

class TilesCompressJob final : public CompressJob {
 public:
  TilesCompressJob(std::optional<DenseTensor> keys, std::optional<DenseTensor> values)
      : keys_(std::move(keys)), values_(std::move(values)) {}

  std::string codec_name() const override { return kTilesCodec; }

  absl::Status Run(Backend& backend) override {
    if (keys_.has_value()) {
      KVATTEND_ASSIGN_OR_RETURN(key_tiles_, backend.CompressTiles(keys_->spec, keys_->halves));
    }
    if (values_.has_value()) {
      KVATTEND_ASSIGN_OR_RETURN(value_tiles_,
                                backend.CompressTiles(values_->spec, values_->halves));
    }
    return absl::OkStatus();
  }

  v1::CompressResponse TakeResponse() override {
    v1::CompressResponse response;
    if (keys_.has_value()) *response.mutable_key_tiles() = ToProto(key_tiles_);
    if (values_.has_value()) *response.mutable_value_tiles() = ToProto(value_tiles_);
    return response;
  }

 private:
  const std::optional<DenseTensor> keys_;
  const std::optional<DenseTensor> values_;
  Tiles key_tiles_;
  Tiles value_tiles_;
};

class TilesDecompressJob final : public DecompressJob {
 public:
  TilesDecompressJob(Tiles tiles, v1::DataType output_dtype)
      : tiles_(std::move(tiles)), output_dtype_(output_dtype) {}

  std::string codec_name() const override { return kTilesCodec; }

  absl::Status Run(Backend& backend) override {
    KVATTEND_ASSIGN_OR_RETURN(dense_, backend.DecompressTiles(tiles_));
    return absl::OkStatus();
  }

  v1::DecompressResponse TakeResponse() override {
    v1::DecompressResponse response;
    const TileSpec& spec = tiles_.spec;
    v1::Tensor* tensor =
        spec.role == TileRole::kKey ? response.mutable_keys() : response.mutable_values();
    SetTensor({spec.batch, spec.num_tokens, spec.head_dim}, output_dtype_, dense_.data(), tensor);
    return response;
  }

 private:
  const Tiles tiles_;
  const v1::DataType output_dtype_;
  std::vector<float> dense_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<CompressJob>> ParseTilesCompress(const v1::CompressRequest& request,
                                                                const Limits& limits) {
  if (!request.has_keys() && !request.has_values()) {
    return InvalidField("MISSING_FIELD", {"keys"}, "expected keys or values, found neither");
  }
  std::optional<DenseTensor> keys;
  std::optional<DenseTensor> values;
  if (request.has_keys()) {
    KVATTEND_ASSIGN_OR_RETURN(keys,
                              ParseDense(request.tiles(), TileRole::kKey, "keys", request.keys()));
  }
  if (request.has_values()) {
    KVATTEND_ASSIGN_OR_RETURN(
        values, ParseDense(request.tiles(), TileRole::kValue, "values", request.values()));
  }
  return std::make_unique<TilesCompressJob>(std::move(keys), std::move(values));
}

absl::StatusOr<std::unique_ptr<DecompressJob>> ParseTilesDecompress(const v1::Tiles& tiles,
                                                                    v1::DataType output_dtype,
                                                                    const Limits& limits) {
  KVATTEND_ASSIGN_OR_RETURN(Tiles parsed, ParseTiles(tiles));
  KVATTEND_ASSIGN_OR_RETURN(const int output_bytes, ElementBytes(output_dtype, {"output_dtype"}));
  KVATTEND_RETURN_IF_ERROR(
      CheckAnswerSize(parsed.spec.dense_elements() * output_bytes, limits.max_message_bytes));
  return std::make_unique<TilesDecompressJob>(std::move(parsed), output_dtype);
}

}  // namespace kvattend
