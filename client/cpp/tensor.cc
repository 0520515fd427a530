#include "client/cpp/tensor.h"

#include <bit>
#include <cstring>

namespace kvattend::client {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are read in place");

template <typename T>
T Load(const std::byte* source) {
  T value;
  std::memcpy(&value, source, sizeof(T));
  return value;
}

}  // namespace

int64_t DataTypeBytes(v1::DataType dtype) {
  switch (dtype) {
    case v1::DATA_TYPE_FLOAT16:
    case v1::DATA_TYPE_BFLOAT16:
      return 2;
    case v1::DATA_TYPE_FLOAT32:
      return 4;
    default:
      return 0;
  }
}

float HalfToFloat(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 0x1fu;
  const uint32_t mantissa = half & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  // 112 is the difference of the exponents' biases, 127 - 15.
  const uint32_t wide_exponent = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | (wide_exponent << 23) | (mantissa << 13));
}

uint16_t FloatToHalf(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return sign | 0x7e00u;   // not a number
  if (magnitude >= 0x477ff000u) return sign | 0x7c00u;  // 65520 and above
  if (magnitude < 0x38800000u) {  // below 2^-14: adding 0.5 leaves the subnormal in the last bits
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return sign | static_cast<uint16_t>(std::bit_cast<uint32_t>(shifted) - 0x3f000000u);
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return sign | static_cast<uint16_t>((rounded - (112u << 23)) >> 13);
}

std::vector<float> ToFloats(v1::DataType dtype, absl::Span<const std::byte> data) {
  const int64_t element_bytes = DataTypeBytes(dtype);
  std::vector<float> values(element_bytes == 0 ? 0 : data.size() / element_bytes);
  for (size_t i = 0; i < values.size(); ++i) {
    const std::byte* source = data.data() + i * element_bytes;
    if (dtype == v1::DATA_TYPE_FLOAT32) {
      values[i] = Load<float>(source);
    } else if (dtype == v1::DATA_TYPE_FLOAT16) {
      values[i] = HalfToFloat(Load<uint16_t>(source));
    } else {  // bfloat16: the upper half of a float
      values[i] = std::bit_cast<float>(static_cast<uint32_t>(Load<uint16_t>(source)) << 16);
    }
  }
  return values;
}

}  // namespace kvattend::client
