// What a session is, for those who ask.
#ifndef KVATTEND_SERVER_STORE_SESSION_INFO_H_
#define KVATTEND_SERVER_STORE_SESSION_INFO_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "kernels/codec/codec_spec.h"

namespace kvattend {

struct ModelShape {
  int num_layers = 0;
  // A multiple of num_kv_heads.
  int num_query_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;

  friend bool operator==(const ModelShape&, const ModelShape&) = default;
};

struct SessionInfo {
  std::string id;
  ModelShape shape;
  CodecSpec codec;
  int64_t recent_window = 0;
  int64_t revision = 0;
  std::vector<int64_t> layer_lengths;
  // Arena bytes of its blocks and pages; what forks share counts in each.
  int64_t stored_bytes = 0;
  // What the same tokens would take as dense float16.
  int64_t dense_bytes = 0;
  std::string shard;
  absl::Time create_time;
};

}  // namespace kvattend

#endif  // KVATTEND_SERVER_STORE_SESSION_INFO_H_
