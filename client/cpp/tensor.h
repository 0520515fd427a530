// Tensors on their way in and out, and their element types. v1::DataType names the types; all data
// is little-endian and row-major, without padding.
//
// Thread-safe: pure functions.
#ifndef KVATTEND_CLIENT_CPP_TENSOR_H_
#define KVATTEND_CLIENT_CPP_TENSOR_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kvattend/v1/types.pb.h"

namespace kvattend::client {

// A dense tensor that someone else owns.
struct TensorView {
  v1::DataType dtype = v1::DATA_TYPE_FLOAT16;
  std::vector<int64_t> shape;
  absl::Span<const std::byte> data;
};

// The bytes of an array or a string.
template <typename T>
absl::Span<const std::byte> AsBytes(absl::Span<const T> values) {
  return {reinterpret_cast<const std::byte*>(values.data()), values.size() * sizeof(T)};
}
inline absl::Span<const std::byte> AsBytes(absl::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

// Of one element; 0 for a type that is none of the three.
int64_t DataTypeBytes(v1::DataType dtype);

// IEEE binary16 patterns. To float exactly; from float to the nearest, ties to even, infinity above
// the range.
float HalfToFloat(uint16_t half);
uint16_t FloatToHalf(float value);

// The elements as float32. `data` has a whole number of elements of a known type.
std::vector<float> ToFloats(v1::DataType dtype, absl::Span<const std::byte> data);

}  // namespace kvattend::client

#endif  // KVATTEND_CLIENT_CPP_TENSOR_H_
