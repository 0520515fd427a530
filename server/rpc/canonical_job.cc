#include "server/rpc/canonical_job.h"

#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "kernels/codec/block_layout.h"
#include "kernels/codec/reference_codec.h"
#include "server/rpc/session_codec.h"

namespace kvattend {
namespace {

// [num_tokens, num_kv_heads, head_dim] of keys, and of values.
struct Dimensions {
  int64_t num_tokens = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;

  std::optional<int64_t> elements() const {
    return CheckedProduct({num_tokens, num_kv_heads, head_dim});
  }
  int64_t num_head_blocks() const { return num_tokens / kBlockTokens * num_kv_heads; }
};

absl::Status CheckDimensions(const Dimensions& dimensions, absl::string_view field,
                             const Limits& limits) {
  absl::string_view problem;
  if (dimensions.num_tokens < 1 || dimensions.num_tokens % kBlockTokens != 0) {
    problem = "num_tokens that is a positive multiple of 64";
  } else if (dimensions.num_kv_heads < 1 || dimensions.num_kv_heads > limits.max_kv_heads) {
    problem = "num_kv_heads between 1 and max_kv_heads";
  } else if (dimensions.head_dim != 64 && dimensions.head_dim != 128 &&
             dimensions.head_dim != 256) {
    problem = "head_dim of 64, 128 or 256";
  } else {
    return absl::OkStatus();
  }
  return InvalidField("SHAPE_MISMATCH", {field},
                      absl::StrCat("expected ", problem, ", found [", dimensions.num_tokens, ", ",
                                   dimensions.num_kv_heads, ", ", dimensions.head_dim, "]"));
}

class CanonicalCompressJob final : public CompressJob {
 public:
  struct Input {
    LayerShape shape;
    int64_t num_tokens = 0;
    StagingBuffer staging;
    // In `staging`.
    const uint16_t* keys = nullptr;
    const uint16_t* values = nullptr;
    uint8_t* blocks = nullptr;
    size_t blocks_bytes = 0;
  };
  explicit CanonicalCompressJob(Input input) : input_(std::move(input)) {}

  std::string codec_name() const override { return std::string(CodecName(input_.shape.codec)); }

  absl::Status Run(Backend& backend) override {
    return backend.Encode(input_.shape, input_.num_tokens, input_.keys, input_.values,
                          input_.blocks);
  }

  v1::CompressResponse TakeResponse() override {
    v1::CompressResponse response;
    v1::CanonicalBlocks* canonical = response.mutable_canonical();
    *canonical->mutable_codec() = ToProto(input_.shape.codec);
    canonical->set_num_tokens(input_.num_tokens);
    canonical->set_num_kv_heads(input_.shape.num_kv_heads);
    canonical->set_head_dim(input_.shape.codec.head_dim);
    canonical->set_blocks(input_.blocks, input_.blocks_bytes);
    return response;
  }

 private:
  Input input_;
};

class CanonicalDecompressJob final : public DecompressJob {
 public:
  struct Input {
    LayerShape shape;
    int64_t num_tokens = 0;
    v1::DataType output_dtype = v1::DATA_TYPE_FLOAT32;
    StagingBuffer staging;
    // In `staging`.
    const uint8_t* blocks = nullptr;
    float* keys = nullptr;
    float* values = nullptr;
  };
  explicit CanonicalDecompressJob(Input input) : input_(std::move(input)) {}

  std::string codec_name() const override { return std::string(CodecName(input_.shape.codec)); }

  absl::Status Run(Backend& backend) override {
    return backend.Decode(input_.shape, input_.num_tokens, input_.blocks, input_.keys,
                          input_.values);
  }

  v1::DecompressResponse TakeResponse() override {
    v1::DecompressResponse response;
    const std::vector<int64_t> shape = {input_.num_tokens, input_.shape.num_kv_heads,
                                        input_.shape.codec.head_dim};
    SetTensor(shape, input_.output_dtype, input_.keys, response.mutable_keys());
    SetTensor(shape, input_.output_dtype, input_.values, response.mutable_values());
    return response;
  }

 private:
  Input input_;
};

absl::StatusOr<Dimensions> ParseShape(const v1::Tensor& tensor, absl::string_view field,
                                      const Limits& limits) {
  const std::string path = absl::StrCat(field, ".shape");
  if (tensor.shape_size() != 3) {
    return InvalidField("SHAPE_MISMATCH", {path},
                        absl::StrCat("expected [num_tokens, num_kv_heads, head_dim], found ",
                                     tensor.shape_size(), " dimensions"));
  }
  const Dimensions dimensions{tensor.shape(0), tensor.shape(1), tensor.shape(2)};
  KVATTEND_RETURN_IF_ERROR(CheckDimensions(dimensions, path, limits));
  KVATTEND_RETURN_IF_ERROR(CheckTensor(tensor, field));
  return dimensions;
}

absl::Status CopyFinite(const v1::Tensor& tensor, absl::string_view role,
                        const Dimensions& dimensions, uint16_t* halves) {
  const std::optional<int64_t> bad = CopyToHalf(tensor.dtype(), tensor.data(), halves);
  if (!bad.has_value()) return absl::OkStatus();
  return NonFiniteInput(role, *bad, dimensions.num_kv_heads, dimensions.head_dim);
}

}  // namespace

absl::StatusOr<std::unique_ptr<CompressJob>> ParseCanonicalCompress(
    const v1::CompressRequest& request, const Limits& limits, StagingAllocator allocate) {
  KVATTEND_ASSIGN_OR_RETURN(const Dimensions dimensions,
                            ParseShape(request.keys(), "keys", limits));
  KVATTEND_RETURN_IF_ERROR(ParseShape(request.values(), "values", limits).status());
  for (int i = 0; i < request.keys().shape_size(); ++i) {
    if (request.keys().shape(i) == request.values().shape(i)) continue;
    return InvalidField("SHAPE_MISMATCH", {"values.shape"},
                        absl::StrCat("expected that of keys, ", request.keys().shape(i),
                                     " in dimension ", i, ", found ", request.values().shape(i)));
  }
  CanonicalCompressJob::Input input;
  input.num_tokens = dimensions.num_tokens;
  input.shape.num_kv_heads = static_cast<int>(dimensions.num_kv_heads);
  KVATTEND_ASSIGN_OR_RETURN(input.shape.codec, ParseCodec(request.canonical().codec(),
                                                          static_cast<int>(dimensions.head_dim)));
  input.blocks_bytes = dimensions.num_head_blocks() * MakeBlockLayout(input.shape.codec).head_bytes;
  KVATTEND_RETURN_IF_ERROR(
      CheckAnswerSize(static_cast<int64_t>(input.blocks_bytes), limits.max_message_bytes));

  const size_t tensor_bytes = AlignStaging(*dimensions.elements() * sizeof(uint16_t));
  KVATTEND_ASSIGN_OR_RETURN(input.staging, allocate(2 * tensor_bytes + input.blocks_bytes));
  std::byte* const base = input.staging.get();
  auto* keys = reinterpret_cast<uint16_t*>(base);
  auto* values = reinterpret_cast<uint16_t*>(base + tensor_bytes);
  KVATTEND_RETURN_IF_ERROR(CopyFinite(request.keys(), "keys", dimensions, keys));
  KVATTEND_RETURN_IF_ERROR(CopyFinite(request.values(), "values", dimensions, values));
  input.keys = keys;
  input.values = values;
  input.blocks = reinterpret_cast<uint8_t*>(base + 2 * tensor_bytes);
  return std::make_unique<CanonicalCompressJob>(std::move(input));
}

namespace {

// Whether every part of every block can be decoded.
absl::Status CheckBlocks(const CodecSpec& codec, const std::string& blocks) {
  const BlockLayout layout = MakeBlockLayout(codec);
  const auto* bytes = reinterpret_cast<const uint8_t*>(blocks.data());
  for (size_t offset = 0; offset < blocks.size(); offset += layout.head_bytes) {
    absl::Status status = ValidateBlockPart(codec, VectorRole::kKey, bytes + offset);
    status.Update(
        ValidateBlockPart(codec, VectorRole::kValue, bytes + offset + layout.keys.size_bytes));
    if (status.ok()) continue;
    return InvalidField(
               "CORRUPT_BLOCK", {"canonical.blocks"},
               absl::StrCat("block of a head ", offset / layout.head_bytes, ": ", status.message()))
        .With("head_block", static_cast<int64_t>(offset / layout.head_bytes));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<DecompressJob>> ParseCanonicalDecompress(
    const v1::CanonicalBlocks& proto, v1::DataType output_dtype, const Limits& limits,
    StagingAllocator allocate) {
  const Dimensions dimensions{proto.num_tokens(), proto.num_kv_heads(), proto.head_dim()};
  KVATTEND_RETURN_IF_ERROR(CheckDimensions(dimensions, "canonical", limits));
  CanonicalDecompressJob::Input input;
  input.num_tokens = dimensions.num_tokens;
  input.shape.num_kv_heads = proto.num_kv_heads();
  input.output_dtype = output_dtype;
  KVATTEND_ASSIGN_OR_RETURN(input.shape.codec, ParseCodec(proto.codec(), proto.head_dim()));
  const auto head_bytes = static_cast<int64_t>(MakeBlockLayout(input.shape.codec).head_bytes);
  KVATTEND_RETURN_IF_ERROR(CheckByteCount(
      {"canonical.blocks"},
      CheckedProduct({dimensions.num_tokens / kBlockTokens, dimensions.num_kv_heads, head_bytes}),
      proto.blocks().size()));
  KVATTEND_ASSIGN_OR_RETURN(const int output_bytes, ElementBytes(output_dtype, {"output_dtype"}));
  // The byte count above bounds these products.
  const int64_t elements = *dimensions.elements();
  KVATTEND_RETURN_IF_ERROR(CheckAnswerSize(2 * elements * output_bytes, limits.max_message_bytes));
  KVATTEND_RETURN_IF_ERROR(CheckBlocks(input.shape.codec, proto.blocks()));

  const size_t tensor_bytes = AlignStaging(elements * sizeof(float));
  KVATTEND_ASSIGN_OR_RETURN(input.staging, allocate(2 * tensor_bytes + proto.blocks().size()));
  std::byte* const base = input.staging.get();
  input.keys = reinterpret_cast<float*>(base);
  input.values = reinterpret_cast<float*>(base + tensor_bytes);
  auto* blocks = reinterpret_cast<uint8_t*>(base + 2 * tensor_bytes);
  std::memcpy(blocks, proto.blocks().data(), proto.blocks().size());
  input.blocks = blocks;
  return std::make_unique<CanonicalDecompressJob>(std::move(input));
}

}  // namespace kvattend
