// The sizes that requests may have. GetServerInfo publishes them; the codecs of this folder enforce
// them, but where said otherwise; proto/kvattend/v1 names their defaults.
#ifndef KVATTEND_SERVER_RPC_LIMITS_H_
#define KVATTEND_SERVER_RPC_LIMITS_H_

#include <cstdint>

namespace kvattend {

struct Limits {
  // Of a request, and of an answer.
  int64_t max_message_bytes = int64_t{64} << 20;
  int max_items_per_call = 4096;
  int max_query_tokens = 1024;
  int max_layers = 1024;
  int max_kv_heads = 256;
  int max_query_heads = 16384;
  int max_top_k = 65536;
  // Of a unit of the arena: a block of 64 compressed tokens, or a page of 16 exact ones, of all KV
  // heads of a layer. Slabs of the arena are this long; the engine checks it.
  int64_t max_block_bytes = int64_t{2} << 20;
  int64_t max_sessions = 100000;
  int64_t max_recent_window = int64_t{1} << 20;
};

}  // namespace kvattend

#endif  // KVATTEND_SERVER_RPC_LIMITS_H_
