#include "client/cli/plan.h"

#include <algorithm>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "kernels/codec/block_layout.h"

namespace kvattend::cli {
namespace {

int64_t DivideUp(int64_t dividend, int64_t divisor) { return (dividend + divisor - 1) / divisor; }

int64_t RoundToUnit(int64_t bytes) {
  return DivideUp(bytes, kUnitAlignmentBytes) * kUnitAlignmentBytes;
}

// A token's keys and values of one layer as float16.
int64_t DenseTokenBytes(const PlanInput& input) {
  return 2 * input.num_kv_heads * input.head_dim * static_cast<int64_t>(sizeof(uint16_t));
}

int64_t SlabsNeeded(const PlanInput& input, const CodecPlan& plan, int64_t num_sessions,
                    int64_t num_tokens) {
  const UnitCounts units = UnitsPerLayer(num_tokens, input.recent_window);
  const int64_t blocks = units.blocks * input.num_layers * num_sessions;
  const int64_t pages = units.pages * input.num_layers * num_sessions;
  const int64_t blocks_per_slab = kSlabBytes / plan.block_bytes;
  const int64_t pages_per_slab = kSlabBytes / plan.page_bytes;
  if (plan.block_bytes == plan.page_bytes) return DivideUp(blocks + pages, blocks_per_slab);
  return DivideUp(blocks, blocks_per_slab) + DivideUp(pages, pages_per_slab);
}

// The largest value in [0, upper] that fits; `fits` holds up to some value and not above.
int64_t LargestFitting(int64_t upper, absl::FunctionRef<bool(int64_t)> fits) {
  int64_t lower = 0;
  while (lower < upper) {
    const int64_t middle = lower + (upper - lower + 1) / 2;
    if (fits(middle)) {
      lower = middle;
    } else {
      upper = middle - 1;
    }
  }
  return lower;
}

}  // namespace

UnitCounts UnitsPerLayer(int64_t num_tokens, int64_t recent_window) {
  UnitCounts units;
  if (num_tokens >= recent_window + kBlockTokens) {
    units.blocks = (num_tokens - recent_window) / kBlockTokens;
  }
  units.pages = DivideUp(std::min(num_tokens, recent_window + kBlockTokens - 1), kPageTokens);
  return units;
}

absl::StatusOr<CodecPlan> PlanCodec(const PlanInput& input, const CodecSpec& codec) {
  CodecPlan plan;
  const auto head_bytes = static_cast<int64_t>(MakeBlockLayout(codec).head_bytes);
  plan.block_bytes = RoundToUnit(input.num_kv_heads * head_bytes);
  plan.page_bytes = RoundToUnit(kPageTokens * DenseTokenBytes(input));
  if (std::max(plan.block_bytes, plan.page_bytes) > kSlabBytes) {
    return absl::InvalidArgumentError(absl::StrCat("a block of this shape takes ", plan.block_bytes,
                                                   " bytes, a page ", plan.page_bytes,
                                                   "; a slab has ", kSlabBytes));
  }
  plan.bytes_per_token =
      static_cast<double>(plan.block_bytes) / kBlockTokens * static_cast<double>(input.num_layers);
  plan.bits_per_element =
      8.0 * static_cast<double>(plan.block_bytes) /
      static_cast<double>(2 * kBlockTokens * input.num_kv_heads * codec.head_dim);

  const int64_t num_slabs = input.memory_bytes / kSlabBytes;
  // No block takes less than a byte a layer and token.
  const int64_t upper = input.memory_bytes / input.num_layers + 1;
  plan.tokens = LargestFitting(upper, [&](int64_t num_tokens) {
    return SlabsNeeded(input, plan, 1, num_tokens) <= num_slabs;
  });
  const UnitCounts units = UnitsPerLayer(input.tokens_per_session, input.recent_window);
  const int64_t session_bytes =
      input.num_layers * (units.blocks * plan.block_bytes + units.pages * plan.page_bytes);
  const int64_t most_sessions = input.memory_bytes / session_bytes;
  plan.sessions = LargestFitting(most_sessions, [&](int64_t num_sessions) {
    return SlabsNeeded(input, plan, num_sessions, input.tokens_per_session) <= num_slabs;
  });
  return plan;
}

CodecPlan PlanDense(const PlanInput& input) {
  const int64_t token_bytes = DenseTokenBytes(input) * input.num_layers;
  CodecPlan plan;
  plan.block_bytes = DenseTokenBytes(input) * kBlockTokens;
  plan.page_bytes = DenseTokenBytes(input) * kPageTokens;
  plan.bits_per_element = 16;
  plan.bytes_per_token = static_cast<double>(token_bytes);
  plan.tokens = input.memory_bytes / token_bytes;
  plan.sessions = plan.tokens / input.tokens_per_session;
  return plan;
}

}  // namespace kvattend::cli
