#include "client/cpp/codec_client.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cpp/chunking.h"
#include "client/cpp/connection.h"
#include "client/cpp/status_conversion.h"

namespace kvattend::client {
namespace {

// Tokens of a canonical block.
constexpr int64_t kBlockTokens = 64;

void FillTensor(const TensorView& view, v1::Tensor* tensor) {
  tensor->set_dtype(view.dtype);
  for (int64_t size : view.shape) tensor->add_shape(size);
  tensor->set_data(view.data.data(), view.data.size());
}

// Tokens [first, first + count) of a [num_tokens, ...] tensor whose tokens take row_bytes.
TensorView SliceTokens(const TensorView& view, int64_t first, int64_t count, int64_t row_bytes) {
  TensorView slice = view;
  slice.shape[0] = count;
  slice.data = view.data.subspan(first * row_bytes, count * row_bytes);
  return slice;
}

absl::Status ValidateCache(const TensorView& keys, const TensorView& values) {
  if (keys.shape.size() != 3 || keys.shape != values.shape || keys.dtype != values.dtype) {
    return absl::InvalidArgumentError(
        "keys and values are [num_tokens, num_kv_heads, head_dim], of one shape and type");
  }
  if (keys.shape[0] <= 0 || keys.shape[0] % kBlockTokens != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("num_tokens is a multiple of 64; found ", keys.shape[0]));
  }
  const int64_t expected =
      keys.shape[0] * keys.shape[1] * keys.shape[2] * DataTypeBytes(keys.dtype);
  for (const TensorView* view : {&keys, &values}) {
    if (static_cast<int64_t>(view->data.size()) != expected || expected <= 0) {
      return absl::InvalidArgumentError(absl::StrCat("a tensor of this shape takes ", expected,
                                                     " bytes; found ", view->data.size()));
    }
  }
  return absl::OkStatus();
}

// Adds the tokens of `part` to `whole`, which may be empty.
void AppendTokens(const v1::Tensor& part, v1::Tensor* whole) {
  if (whole->shape_size() == 0) {
    *whole = part;
    return;
  }
  whole->set_shape(0, whole->shape(0) + part.shape(0));
  whole->mutable_data()->append(part.data());
}

}  // namespace

CodecClient::CodecClient(const Client& client) : connection_(client.connection_) {}

absl::StatusOr<v1::CompressResponse> CodecClient::CallCompress(const v1::CompressRequest& request,
                                                               absl::Time deadline) const {
  v1::CompressResponse response;
  const absl::Status status = connection_->Call(deadline, "", [&](grpc::ClientContext* context) {
    return FromGrpcStatus(connection_->codec().Compress(context, request, &response));
  });
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<v1::DecompressResponse> CodecClient::CallDecompress(
    const v1::DecompressRequest& request, absl::Time deadline) const {
  v1::DecompressResponse response;
  const absl::Status status = connection_->Call(deadline, "", [&](grpc::ClientContext* context) {
    return FromGrpcStatus(connection_->codec().Decompress(context, request, &response));
  });
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<v1::CanonicalBlocks> CodecClient::Compress(const v1::Codec& codec,
                                                          const TensorView& keys,
                                                          const TensorView& values,
                                                          const CallOptions& options) const {
  if (absl::Status status = ValidateCache(keys, values); !status.ok()) return status;
  const absl::Time deadline = connection_->Deadline(options);
  const int64_t num_tokens = keys.shape[0];
  const int64_t row_bytes = static_cast<int64_t>(keys.data.size()) / num_tokens;
  const int64_t step =
      TokensPerMessage(2 * row_bytes, kBlockTokens, connection_->limits().max_message_bytes());
  v1::CanonicalBlocks blocks;
  for (int64_t first = 0; first < num_tokens; first += step) {
    const int64_t count = std::min(step, num_tokens - first);
    v1::CompressRequest request;
    *request.mutable_canonical()->mutable_codec() = codec;
    FillTensor(SliceTokens(keys, first, count, row_bytes), request.mutable_keys());
    FillTensor(SliceTokens(values, first, count, row_bytes), request.mutable_values());
    auto response = CallCompress(request, deadline);
    if (!response.ok()) return response.status();
    v1::CanonicalBlocks& part = *response->mutable_canonical();
    if (first == 0) {
      blocks = std::move(part);
    } else {
      blocks.set_num_tokens(blocks.num_tokens() + part.num_tokens());
      blocks.mutable_blocks()->append(part.blocks());
    }
  }
  return blocks;
}

absl::StatusOr<DenseCache> CodecClient::Decompress(const v1::CanonicalBlocks& blocks,
                                                   v1::DataType output_dtype,
                                                   const CallOptions& options) const {
  const int64_t num_blocks = blocks.num_tokens() / kBlockTokens;
  if (num_blocks <= 0 || blocks.num_tokens() % kBlockTokens != 0 ||
      blocks.blocks().size() % num_blocks != 0) {
    return absl::InvalidArgumentError(
        "blocks hold a multiple of 64 tokens, in parts of equal size");
  }
  const absl::Time deadline = connection_->Deadline(options);
  const int64_t block_bytes = static_cast<int64_t>(blocks.blocks().size()) / num_blocks;
  const int64_t dense_bytes = 2 * kBlockTokens * blocks.num_kv_heads() * blocks.head_dim() *
                              std::max<int64_t>(DataTypeBytes(output_dtype), sizeof(uint16_t));
  const int64_t step = TokensPerMessage(std::max(block_bytes, dense_bytes), 1,
                                        connection_->limits().max_message_bytes());
  DenseCache cache;
  for (int64_t first = 0; first < num_blocks; first += step) {
    const int64_t count = std::min(step, num_blocks - first);
    v1::DecompressRequest request;
    request.set_output_dtype(output_dtype);
    v1::CanonicalBlocks& part = *request.mutable_canonical();
    *part.mutable_codec() = blocks.codec();
    part.set_num_tokens(count * kBlockTokens);
    part.set_num_kv_heads(blocks.num_kv_heads());
    part.set_head_dim(blocks.head_dim());
    part.set_blocks(blocks.blocks().substr(first * block_bytes, count * block_bytes));
    auto response = CallDecompress(request, deadline);
    if (!response.ok()) return response.status();
    AppendTokens(response->keys(), &cache.keys);
    AppendTokens(response->values(), &cache.values);
  }
  return cache;
}

absl::StatusOr<TilePair> CodecClient::CompressTiles(const v1::TileOptions& tile_options,
                                                    const std::optional<TensorView>& keys,
                                                    const std::optional<TensorView>& values,
                                                    const CallOptions& options) const {
  v1::CompressRequest request;
  *request.mutable_tiles() = tile_options;
  if (keys.has_value()) FillTensor(*keys, request.mutable_keys());
  if (values.has_value()) FillTensor(*values, request.mutable_values());
  auto response = CallCompress(request, connection_->Deadline(options));
  if (!response.ok()) return response.status();
  TilePair tiles;
  if (keys.has_value()) tiles.keys = std::move(*response->mutable_key_tiles());
  if (values.has_value()) tiles.values = std::move(*response->mutable_value_tiles());
  return tiles;
}

absl::StatusOr<v1::Tensor> CodecClient::DecompressTiles(const v1::Tiles& tiles,
                                                        v1::DataType output_dtype,
                                                        const CallOptions& options) const {
  v1::DecompressRequest request;
  request.set_output_dtype(output_dtype);
  *request.mutable_tiles() = tiles;
  auto response = CallDecompress(request, connection_->Deadline(options));
  if (!response.ok()) return response.status();
  return std::move(tiles.role() == v1::TILE_ROLE_KEY ? *response->mutable_keys()
                                                     : *response->mutable_values());
}

}  // namespace kvattend::client
