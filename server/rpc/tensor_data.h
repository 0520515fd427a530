// The elements of tensors: from a request's bytes to staging memory, and from results to an
// answer's bytes. Bytes are little-endian and need no alignment.
//
// Thread-safe: pure functions.
#ifndef KVATTEND_SERVER_RPC_TENSOR_DATA_H_
#define KVATTEND_SERVER_RPC_TENSOR_DATA_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/backend.h"
#include "kvattend/v1/types.pb.h"
#include "server/rpc/validation.h"

namespace kvattend {

// Tensors in staging memory begin at multiples of this, which suits any SIMD load.
inline constexpr size_t kStagingAlignment = 64;
constexpr size_t AlignStaging(size_t size_bytes) {
  return (size_bytes + kStagingAlignment - 1) / kStagingAlignment * kStagingAlignment;
}

// As Engine::AllocateStaging.
using StagingAllocator = absl::FunctionRef<absl::StatusOr<StagingBuffer>(size_t)>;

// Bytes of an element. INVALID_ARGUMENT UNSUPPORTED_DTYPE naming `field` and the types there are.
absl::StatusOr<int> ElementBytes(v1::DataType dtype, const FieldPath& field);
// The same of a type that this accepts; so do the functions below.
int ElementBytes(v1::DataType dtype);

// INVALID_ARGUMENT unless the dtype is known, no dimension is negative and the bytes are as many as
// the shape says. `field` is the tensor's.
absl::Status CheckTensor(const v1::Tensor& tensor, absl::string_view field);

// Fills a tensor with float32 elements as `dtype`.
void SetTensor(const std::vector<int64_t>& shape, v1::DataType dtype, const float* elements,
               v1::Tensor* tensor);

// Rounds every element of `bytes` to float16. The index of the first one that is not finite then;
// what follows it is not written.
std::optional<int64_t> CopyToHalf(v1::DataType dtype, absl::string_view bytes, uint16_t* halves);

// As CopyToHalf, to float32, exactly.
std::optional<int64_t> CopyToFloat(v1::DataType dtype, absl::string_view bytes, float* floats);

// INVALID_ARGUMENT NON_FINITE_INPUT of `element` of a tensor [num_tokens, num_heads, head_dim],
// with "role", "token", "head" and "channel".
Error NonFiniteInput(absl::string_view role, int64_t element, int64_t num_heads, int64_t head_dim);

// Appends the elements as `dtype`: float16 and bfloat16 rounded to nearest even, float16
// saturating.
void AppendAs(v1::DataType dtype, const float* elements, int64_t num_elements, std::string* bytes);

}  // namespace kvattend

#endif  // KVATTEND_SERVER_RPC_TENSOR_DATA_H_
