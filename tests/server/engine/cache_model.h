// A simple model of a session's cache, to compare the engine with: exact float16 tokens, and the
// scalar reference for what is compressed.
#ifndef KVATTEND_TESTS_SERVER_ENGINE_CACHE_MODEL_H_
#define KVATTEND_TESTS_SERVER_ENGINE_CACHE_MODEL_H_

#include <cstdint>
#include <vector>

#include "kernels/backend.h"

namespace kvattend::testing {

// One layer. Tokens below `num_compressed` are compressed, from these float16 values: those that
// were appended, or after a change of codec those that the codec before gave.
struct LayerModel {
  // [length, num_kv_heads, head_dim].
  std::vector<uint16_t> keys;
  std::vector<uint16_t> values;
  int64_t num_compressed = 0;

  int64_t length(const LayerShape& shape) const {
    return static_cast<int64_t>(keys.size()) / shape.num_kv_heads / shape.codec.head_dim;
  }

  // Token by token, as the rule has it.
  void Append(const LayerShape& shape, int64_t recent_window, const std::vector<uint16_t>& new_keys,
              const std::vector<uint16_t>& new_values);
  bool CanTruncate(int64_t new_length) const;
  void Truncate(const LayerShape& shape, int64_t new_length);
  // Compresses the oldest exact tokens while 64 more than keep_exact are there.
  void Compress(const LayerShape& shape, int64_t keep_exact);
  // Replaces the sources of compressed tokens by what `shape`'s codec makes of them.
  void DecodeCompressed(const LayerShape& shape);
};

// Attention in float64 over what the layer decodes to: [num_tokens, num_query_heads, head_dim].
std::vector<double> ModelAttention(const LayerModel& layer, const LayerShape& shape,
                                   const Query& query);

}  // namespace kvattend::testing

#endif  // KVATTEND_TESTS_SERVER_ENGINE_CACHE_MODEL_H_
