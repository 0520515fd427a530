#include "client/cpp/chunking.h"

#include <algorithm>
#include <map>

namespace kvattend::client {
namespace {

// An item's own fields within a message: session name, shape, positions; or a status with details.
constexpr int64_t kItemHeadroomBytes = 512;

}  // namespace

int64_t TokensPerMessage(int64_t token_bytes, int64_t granularity, int64_t max_message_bytes) {
  const int64_t fitting =
      (max_message_bytes - kMessageHeadroomBytes) / std::max<int64_t>(token_bytes, 1);
  return std::max(granularity, fitting / granularity * granularity);
}

std::vector<AppendChunk> PlanAppend(int num_layers, int64_t num_tokens, int64_t token_bytes,
                                    int64_t max_message_bytes) {
  const int64_t layers_per_chunk =
      std::min<int64_t>(num_layers, TokensPerMessage(token_bytes, 1, max_message_bytes));
  const int64_t tokens_per_chunk =
      layers_per_chunk < num_layers
          ? 1
          : TokensPerMessage(token_bytes * num_layers, 1, max_message_bytes);
  std::vector<AppendChunk> chunks;
  for (int64_t token = 0; token < num_tokens; token += tokens_per_chunk) {
    for (int64_t layer = 0; layer < num_layers; layer += layers_per_chunk) {
      chunks.push_back(
          {.first_layer = static_cast<int>(layer),
           .num_layers = static_cast<int>(std::min(layers_per_chunk, num_layers - layer)),
           .first_token = token,
           .num_tokens = std::min(tokens_per_chunk, num_tokens - token)});
    }
  }
  return chunks;
}

std::vector<std::vector<size_t>> PlanBatches(const std::vector<BatchItem>& items, int max_items,
                                             int64_t max_message_bytes) {
  struct OpenBatch {
    size_t index = 0;
    int64_t request_bytes = 0;
    int64_t response_bytes = 0;
  };
  const int64_t budget = max_message_bytes - kMessageHeadroomBytes;
  std::vector<std::vector<size_t>> batches;
  std::map<std::string, OpenBatch> open;  // the last batch of each shard
  for (size_t i = 0; i < items.size(); ++i) {
    const int64_t request_bytes = items[i].request_bytes + kItemHeadroomBytes;
    const int64_t response_bytes = items[i].response_bytes + kItemHeadroomBytes;
    auto [entry, is_new] = open.try_emplace(items[i].shard);
    OpenBatch& batch = entry->second;
    const bool fits = !is_new &&
                      batches[batch.index].size() < static_cast<size_t>(std::max(max_items, 1)) &&
                      batch.request_bytes + request_bytes <= budget &&
                      batch.response_bytes + response_bytes <= budget;
    if (!fits) {
      batch = {.index = batches.size()};
      batches.emplace_back();
    }
    batches[batch.index].push_back(i);
    batch.request_bytes += request_bytes;
    batch.response_bytes += response_bytes;
  }
  return batches;
}

}  // namespace kvattend::client
