// One session: what was asked for at its creation, and the layers' caches.
//
// Not thread-safe: the executor's thread owns it.
#ifndef KVATTEND_SERVER_STORE_SESSION_H_
#define KVATTEND_SERVER_STORE_SESSION_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "kernels/backend.h"
#include "server/store/layer_cache.h"
#include "server/store/session_info.h"

namespace kvattend {

// What never changes.
struct SessionConfig {
  std::string id;
  ModelShape shape;
  int64_t recent_window = 0;
  std::string shard;
  absl::Time create_time;
};

// The sizes of a layer's units, as the backend says.
struct UnitSizes {
  size_t block_bytes = 0;
  size_t page_bytes = 0;
};

class Session {
 public:
  // Empty, at revision 1.
  Session(SessionConfig config, const CodecSpec& codec, const UnitSizes& unit_sizes);

  const SessionConfig& config() const { return config_; }
  const CodecSpec& codec() const { return codec_; }
  const UnitSizes& unit_sizes() const { return unit_sizes_; }
  int64_t revision() const { return revision_; }
  LayerShape layer_shape() const { return {config_.shape.num_kv_heads, codec_}; }

  std::vector<LayerCache>& layers() { return layers_; }
  const std::vector<LayerCache>& layers() const { return layers_; }

  // What a token of one layer takes as dense float16, keys and values.
  int64_t dense_token_bytes() const;
  int64_t dense_bytes() const;
  SessionInfo Info() const;

  void RaiseRevision() { ++revision_; }
  // For blocks that have been recoded.
  void SetCodec(const CodecSpec& codec, const UnitSizes& unit_sizes);

  // A session with the same tokens and codec, at revision 1, whose layers share this one's units.
  // The config's shape and window are this session's.
  std::unique_ptr<Session> Fork(SessionConfig config) const;

 private:
  SessionConfig config_;
  CodecSpec codec_;
  UnitSizes unit_sizes_;
  int64_t revision_ = 1;
  std::vector<LayerCache> layers_;
};

}  // namespace kvattend

#endif  // KVATTEND_SERVER_STORE_SESSION_H_
