// How many tokens and sessions fit into an arena, by codec: the arithmetic of `kvattend plan`,
// which is that of the server's block pool.
//
// The pool hands out units of two kinds, each rounded up to 256 bytes: blocks (64 compressed tokens
// x all KV heads of a layer) and pages (16 exact tokens likewise). Units of one size share slabs of
// 2 MiB, which hold whole units only. Beside its blocks a layer keeps up to recent_window + 63
// exact tokens; that peak is what is planned for.
//
// Thread-safe: pure functions.
#ifndef KVATTEND_CLIENT_CLI_PLAN_H_
#define KVATTEND_CLIENT_CLI_PLAN_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/codec/codec_spec.h"

namespace kvattend::cli {

inline constexpr int64_t kUnitAlignmentBytes = 256;
inline constexpr int64_t kPageTokens = 16;
inline constexpr int64_t kSlabBytes = int64_t{2} << 20;

struct PlanInput {
  // 1 to 1,024.
  int64_t num_layers = 0;
  // 1 to 256.
  int64_t num_kv_heads = 0;
  // 64, 128 or 256.
  int head_dim = 0;
  int64_t memory_bytes = 0;
  // 0 to 1,048,576.
  int64_t recent_window = 64;
  // 1 to 2^32.
  int64_t tokens_per_session = 0;
};

struct CodecPlan {
  // Of a layer, rounded.
  int64_t block_bytes = 0;
  int64_t page_bytes = 0;
  // Of compressed tokens, rounding included: per key or value element.
  double bits_per_element = 0;
  // Of all layers, per compressed token.
  double bytes_per_token = 0;
  // The longest single session.
  int64_t tokens = 0;
  // Sessions of tokens_per_session.
  int64_t sessions = 0;
};

// What a session of `num_tokens` takes at most, per layer.
struct UnitCounts {
  int64_t blocks = 0;
  int64_t pages = 0;
};
UnitCounts UnitsPerLayer(int64_t num_tokens, int64_t recent_window);

// INVALID_ARGUMENT where a unit is larger than a slab.
absl::StatusOr<CodecPlan> PlanCodec(const PlanInput& input, const CodecSpec& codec);

// Without kvattend: dense float16, nothing lost to rounding.
CodecPlan PlanDense(const PlanInput& input);

}  // namespace kvattend::cli

#endif  // KVATTEND_CLIENT_CLI_PLAN_H_
