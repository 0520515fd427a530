// Compression without sessions: the canonical blocks of this server, and the tiles of the reference
// formats (MUSTAFAR's and its 2-bit variants). docs/formats.md describes both.
//
// Thread-safe. The client may be destroyed before it.
#ifndef KVATTEND_CLIENT_CPP_CODEC_CLIENT_H_
#define KVATTEND_CLIENT_CPP_CODEC_CLIENT_H_

#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "client/cpp/client.h"
#include "client/cpp/tensor.h"
#include "kvattend/v1/codec_service.pb.h"

namespace kvattend::client {

// A dense cache; both float32 or both of the type asked for.
struct DenseCache {
  // [num_tokens, num_kv_heads, head_dim].
  v1::Tensor keys;
  v1::Tensor values;
};

// What was asked for is set.
struct TilePair {
  std::optional<v1::Tiles> keys;
  std::optional<v1::Tiles> values;
};

class CodecClient {
 public:
  explicit CodecClient(const Client& client);

  // Keys and values of one type, both [num_tokens, num_kv_heads, head_dim] with num_tokens a
  // multiple of 64, into canonical blocks, in as many calls as the message limit asks for.
  absl::StatusOr<v1::CanonicalBlocks> Compress(const v1::Codec& codec, const TensorView& keys,
                                               const TensorView& values,
                                               const CallOptions& options = {}) const;
  // The reverse, likewise in several calls where need be.
  absl::StatusOr<DenseCache> Decompress(const v1::CanonicalBlocks& blocks,
                                        v1::DataType output_dtype = v1::DATA_TYPE_FLOAT32,
                                        const CallOptions& options = {}) const;

  // Keys, values or both, [batch, num_tokens, head_dim], into tiles of `tile_options`. One call:
  // the tensors fit into a message.
  absl::StatusOr<TilePair> CompressTiles(const v1::TileOptions& tile_options,
                                         const std::optional<TensorView>& keys,
                                         const std::optional<TensorView>& values,
                                         const CallOptions& options = {}) const;
  // [batch, num_tokens, head_dim].
  absl::StatusOr<v1::Tensor> DecompressTiles(const v1::Tiles& tiles,
                                             v1::DataType output_dtype = v1::DATA_TYPE_FLOAT32,
                                             const CallOptions& options = {}) const;

 private:
  absl::StatusOr<v1::CompressResponse> CallCompress(const v1::CompressRequest& request,
                                                    absl::Time deadline) const;
  absl::StatusOr<v1::DecompressResponse> CallDecompress(const v1::DecompressRequest& request,
                                                        absl::Time deadline) const;

  std::shared_ptr<Connection> connection_;
};

}  // namespace kvattend::client

#endif  // KVATTEND_CLIENT_CPP_CODEC_CLIENT_H_
