// The reference tensors and the figures that must come out of them (tests/data/golden).
#ifndef KVATTEND_CLIENT_CLI_REFERENCE_INPUT_H_
#define KVATTEND_CLIENT_CLI_REFERENCE_INPUT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/exact_attention.h"
#include "client/cli/json.h"

namespace kvattend::cli {

struct ReferenceInput {
  // 8 heads (a batch of 2 x 4 attention heads), 256 tokens, 128 channels.
  static constexpr AttentionShape kShape = {.heads = 8, .tokens = 256, .head_dim = 128};
  static constexpr int kAttentionHeads = 4;

  // float16: keys and values [heads, tokens, head_dim], queries [heads, head_dim].
  std::string keys;
  std::string values;
  std::string queries;
  // The same, as numbers.
  std::vector<float> key_floats;
  std::vector<float> value_floats;
  std::vector<float> query_floats;
  // Groups of figures: {"mustafar_fp16_key": {"bitmap_0_0": ...}, ...}.
  Json figures;
};

// Reads seed42_k.f16, seed42_v.f16, seed42_q.f16 and figures.json from `directory`.
absl::StatusOr<ReferenceInput> ReadReferenceInput(const std::string& directory);

}  // namespace kvattend::cli

#endif  // KVATTEND_CLIENT_CLI_REFERENCE_INPUT_H_
