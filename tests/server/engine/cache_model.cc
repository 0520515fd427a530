#include "tests/server/engine/cache_model.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/half.h"
#include "kernels/codec/block_layout.h"
#include "kernels/codec/reference_codec.h"

namespace kvattend::testing {
namespace {

// Encodes and decodes the first num_compressed tokens of x [length, num_kv_heads, head_dim]; the
// others stay exact.
std::vector<float> DecodedValues(const LayerShape& shape, VectorRole role,
                                 const std::vector<uint16_t>& x, int64_t num_compressed) {
  const int head_dim = shape.codec.head_dim;
  std::vector<float> decoded(x.size());
  std::transform(x.begin(), x.end(), decoded.begin(), HalfToFloat);
  std::vector<uint16_t> head(static_cast<size_t>(kBlockTokens) * head_dim);
  std::vector<float> decoded_head(head.size());
  std::vector<uint8_t> part(MakeBlockLayout(shape.codec).part(role).size_bytes);
  for (int64_t block = 0; block < num_compressed; block += kBlockTokens) {
    for (int h = 0; h < shape.num_kv_heads; ++h) {
      const auto offset = [&](int token) {
        return ((block + token) * shape.num_kv_heads + h) * head_dim;
      };
      for (int t = 0; t < kBlockTokens; ++t) {
        std::copy_n(x.begin() + offset(t), head_dim, head.begin() + t * head_dim);
      }
      EncodeReference(shape.codec, role, head.data(), part.data());
      DecodeReference(shape.codec, role, part.data(), decoded_head.data());
      for (int t = 0; t < kBlockTokens; ++t) {
        std::copy_n(decoded_head.begin() + t * head_dim, head_dim, decoded.begin() + offset(t));
      }
    }
  }
  return decoded;
}

}  // namespace

void LayerModel::Append(const LayerShape& shape, int64_t recent_window,
                        const std::vector<uint16_t>& new_keys,
                        const std::vector<uint16_t>& new_values) {
  const ptrdiff_t stride = ptrdiff_t{shape.num_kv_heads} * shape.codec.head_dim;
  for (ptrdiff_t i = 0; i < static_cast<ptrdiff_t>(new_keys.size()); i += stride) {
    keys.insert(keys.end(), new_keys.begin() + i, new_keys.begin() + i + stride);
    values.insert(values.end(), new_values.begin() + i, new_values.begin() + i + stride);
    if (length(shape) - num_compressed == recent_window + kBlockTokens) {
      num_compressed += kBlockTokens;
    }
  }
}

bool LayerModel::CanTruncate(int64_t new_length) const {
  return new_length >= num_compressed || new_length % kBlockTokens == 0;
}

void LayerModel::Truncate(const LayerShape& shape, int64_t new_length) {
  if (new_length >= length(shape)) return;
  const auto size = static_cast<size_t>(new_length * shape.num_kv_heads * shape.codec.head_dim);
  keys.resize(size);
  values.resize(size);
  num_compressed = std::min(num_compressed, new_length);
}

void LayerModel::Compress(const LayerShape& shape, int64_t keep_exact) {
  while (length(shape) - num_compressed >= keep_exact + kBlockTokens) {
    num_compressed += kBlockTokens;
  }
}

void LayerModel::DecodeCompressed(const LayerShape& shape) {
  const auto recode = [&](VectorRole role, std::vector<uint16_t>& x) {
    const std::vector<float> decoded = DecodedValues(shape, role, x, num_compressed);
    std::transform(decoded.begin(), decoded.end(), x.begin(), FloatToHalfSaturating);
  };
  recode(VectorRole::kKey, keys);
  recode(VectorRole::kValue, values);
}

std::vector<double> ModelAttention(const LayerModel& layer, const LayerShape& shape,
                                   const Query& query) {
  const int head_dim = shape.codec.head_dim;
  const int64_t length = layer.length(shape);
  const std::vector<float> keys =
      DecodedValues(shape, VectorRole::kKey, layer.keys, layer.num_compressed);
  const std::vector<float> values =
      DecodedValues(shape, VectorRole::kValue, layer.values, layer.num_compressed);
  std::vector<double> outputs;
  for (int64_t row = 0; row < int64_t{query.num_tokens} * query.num_query_heads; ++row) {
    const int64_t end = length - query.num_tokens + row / query.num_query_heads + 1;
    const int64_t kv_head =
        row % query.num_query_heads / (query.num_query_heads / shape.num_kv_heads);
    const auto vector = [&](const std::vector<float>& x, int64_t token) {
      return x.data() + (token * shape.num_kv_heads + kv_head) * head_dim;
    };
    std::vector<double> scores;
    for (int64_t token = query.start_position; token < end; ++token) {
      double score = 0;
      for (int c = 0; c < head_dim; ++c) {
        score += double{query.data[row * head_dim + c]} * vector(keys, token)[c];
      }
      scores.push_back(score * query.scale);
    }
    const double largest = *std::max_element(scores.begin(), scores.end());
    std::vector<double> output(head_dim);
    double sum = 0;
    for (int64_t token = query.start_position; token < end; ++token) {
      const double weight = std::exp(scores[token - query.start_position] - largest);
      sum += weight;
      for (int c = 0; c < head_dim; ++c) output[c] += weight * vector(values, token)[c];
    }
    for (double value : output) outputs.push_back(value / sum);
  }
  return outputs;
}

}  // namespace kvattend::testing
