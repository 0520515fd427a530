// How work is split over calls: appends by message size, batches by shard, items and size.
//
// Thread-safe: pure functions.
#ifndef KVATTEND_CLIENT_CPP_CHUNKING_H_
#define KVATTEND_CLIENT_CPP_CHUNKING_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace kvattend::client {

// Bytes of a message left for everything but the tensors: an item names a session (at most 137
// characters) and up to 1,024 layers (two bytes each).
inline constexpr int64_t kMessageHeadroomBytes = 16 * 1024;

// A part of an append: tokens [first_token, first_token + num_tokens) of the named layers
// [first_layer, first_layer + num_layers), counted in the order in which the append names them.
struct AppendChunk {
  int first_layer = 0;
  int num_layers = 0;
  int64_t first_token = 0;
  int64_t num_tokens = 0;

  friend bool operator==(const AppendChunk&, const AppendChunk&) = default;
};

// Splits an append of num_layers x num_tokens, `token_bytes` a layer's token (keys and values),
// into chunks of at most max_message_bytes. Layers stay together, so that all of them grow in step,
// as long as one token of all of them fits; else runs of layers take turns. A single token of one
// layer that is too large still makes a chunk: the server's refusal then says what its limit is.
std::vector<AppendChunk> PlanAppend(int num_layers, int64_t num_tokens, int64_t token_bytes,
                                    int64_t max_message_bytes);

// What an item of a batched call needs.
struct BatchItem {
  // Items of different shards do not share a call.
  std::string shard;
  int64_t request_bytes = 0;
  int64_t response_bytes = 0;
};

// The calls of a batch, each a list of indices into `items`; within a shard, items keep their
// order. No call has more than max_items, and none of several items exceeds max_message_bytes
// either way.
std::vector<std::vector<size_t>> PlanBatches(const std::vector<BatchItem>& items, int max_items,
                                             int64_t max_message_bytes);

// The most tokens, a multiple of `granularity` and at least that, such that num_tokens *
// token_bytes fits into a message.
int64_t TokensPerMessage(int64_t token_bytes, int64_t granularity, int64_t max_message_bytes);

}  // namespace kvattend::client

#endif  // KVATTEND_CLIENT_CPP_CHUNKING_H_
