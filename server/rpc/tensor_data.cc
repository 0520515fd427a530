#include "server/rpc/tensor_data.h"

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "kernels/cpu/entry.h"

namespace kvattend {
namespace {

// Of a type that ElementBytes accepts.
FloatType ToFloatType(v1::DataType dtype) {
  if (dtype == v1::DATA_TYPE_FLOAT16) return FloatType::kFloat16;
  if (dtype == v1::DATA_TYPE_BFLOAT16) return FloatType::kBfloat16;
  KVATTEND_CHECK(dtype == v1::DATA_TYPE_FLOAT32);
  return FloatType::kFloat32;
}

}  // namespace

absl::StatusOr<int> ElementBytes(v1::DataType dtype, const FieldPath& field) {
  switch (dtype) {
    case v1::DATA_TYPE_FLOAT16:
    case v1::DATA_TYPE_BFLOAT16:
    case v1::DATA_TYPE_FLOAT32:
      return ElementBytes(dtype);
    default:
      return InvalidField(
          "UNSUPPORTED_DTYPE", field,
          absl::StrCat("expected FLOAT16, BFLOAT16 or FLOAT32, found ", static_cast<int>(dtype)));
  }
}

int ElementBytes(v1::DataType dtype) {
  return static_cast<int>(FloatTypeBytes(ToFloatType(dtype)));
}

std::optional<int64_t> CopyToHalf(v1::DataType dtype, absl::string_view bytes, uint16_t* halves) {
  const FloatType type = ToFloatType(dtype);
  return ConvertToHalf(type, bytes.data(), bytes.size() / FloatTypeBytes(type), halves);
}

std::optional<int64_t> CopyToFloat(v1::DataType dtype, absl::string_view bytes, float* floats) {
  const FloatType type = ToFloatType(dtype);
  return ConvertToFloat(type, bytes.data(), bytes.size() / FloatTypeBytes(type), floats);
}

void AppendAs(v1::DataType dtype, const float* elements, int64_t num_elements, std::string* bytes) {
  const FloatType type = ToFloatType(dtype);
  const size_t start = bytes->size();
  bytes->resize(start + num_elements * FloatTypeBytes(type));
  ConvertFromFloat(type, elements, num_elements, bytes->data() + start);
}

absl::Status CheckTensor(const v1::Tensor& tensor, absl::string_view field) {
  KVATTEND_ASSIGN_OR_RETURN(const int element_bytes,
                            ElementBytes(tensor.dtype(), {absl::StrCat(field, ".dtype")}));
  std::optional<int64_t> elements = 1;
  for (const int64_t dimension : tensor.shape()) {
    if (dimension < 0) {
      return InvalidField("SHAPE_MISMATCH", {absl::StrCat(field, ".shape")},
                          absl::StrCat("expected no negative dimension, found ", dimension));
    }
    if (elements.has_value()) elements = CheckedProduct({*elements, dimension});
  }
  ByteTotal total;
  total.Add(elements, element_bytes);
  return CheckByteCount({absl::StrCat(field, ".data")}, total.value(), tensor.data().size());
}

void SetTensor(const std::vector<int64_t>& shape, v1::DataType dtype, const float* elements,
               v1::Tensor* tensor) {
  tensor->set_dtype(dtype);
  int64_t num_elements = 1;
  for (const int64_t dimension : shape) {
    tensor->add_shape(dimension);
    num_elements *= dimension;
  }
  AppendAs(dtype, elements, num_elements, tensor->mutable_data());
}

Error NonFiniteInput(absl::string_view role, int64_t element, int64_t num_heads, int64_t head_dim) {
  const int64_t channel = element % head_dim;
  const int64_t head = element / head_dim % num_heads;
  const int64_t token = element / head_dim / num_heads;
  return InvalidField("NON_FINITE_INPUT", {role},
                      absl::StrCat("expected finite values, found one that is not at token ", token,
                                   ", head ", head, ", channel ", channel))
      .With("role", role)
      .With("token", token)
      .With("head", head)
      .With("channel", channel);
}

}  // namespace kvattend
