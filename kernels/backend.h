// What a device does for the server: holds the arena, compresses tokens into it, attends over it.
//
// The caller (server/engine, server/store) owns the bookkeeping: which units of the arena belong to
// whom. A backend gets offsets and does the maths. Two kinds of unit live in the arena:
//   block  64 tokens x all KV heads of one layer, compressed; BlockBytes() long; opaque, in
//   whatever
//          layout the backend likes (ReadBlocks gives the canonical form)
//   page   16 tokens x all KV heads of one layer, exact float16; PageBytes() long; opaque too
//
// All input tensors lie in staging memory of this backend (AllocateStaging) as float16 patterns
// (keys and values) or float32 (queries), checked to be finite; results go to staging memory.
//
// Threads: one caller at a time (the executor) for everything that takes tasks; the const methods
// and AllocateStaging from any thread. Calls return when the work is done. Task arrays are borrowed
// for the call.
//
// Errors: requests are validated above; a backend reports only UNAVAILABLE (device fault),
// RESOURCE_EXHAUSTED (scratch memory) and UNIMPLEMENTED (a capability that it lacks, listing those
// it has). A backend that fails leaves source units as they were.
#ifndef KVATTEND_KERNELS_BACKEND_H_
#define KVATTEND_KERNELS_BACKEND_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/codec/codec_spec.h"
#include "kernels/mustafar/tiles.h"

namespace kvattend {

// Tokens of an exact page.
inline constexpr int kPageTokens = 16;

struct DeviceInfo {
  // "cpu" or "cuda".
  std::string kind;
  // For people, e.g. "AVX3_DL, 2 threads".
  std::string name;
};

struct DeviceMemory {
  uint64_t used_bytes = 0;
  uint64_t total_bytes = 0;
};

// Host memory that the device reads and writes directly; 64-byte aligned, not zeroed.
using StagingBuffer = std::unique_ptr<std::byte[], std::function<void(std::byte*)>>;

// The shape of one layer's cache.
struct LayerShape {
  int num_kv_heads = 0;
  CodecSpec codec;
};

// Compresses 64 consecutive tokens into a block. The first `num_paged` tokens come from pages
// (token t from slot t % 16 of page t / 16), the others from staging.
struct CompressTask {
  LayerShape shape;
  uint64_t block = 0;
  int num_paged = 0;
  uint64_t pages[kBlockTokens / kPageTokens] = {};
  // float16 [64 - num_paged, num_kv_heads, head_dim]; null if num_paged == 64.
  const uint16_t* keys = nullptr;
  const uint16_t* values = nullptr;
};

// Writes num_tokens exact tokens into slots first_slot .. of a page.
struct WritePageTask {
  LayerShape shape;
  uint64_t page = 0;
  int first_slot = 0;
  int num_tokens = 0;
  // float16 [num_tokens, num_kv_heads, head_dim].
  const uint16_t* keys = nullptr;
  const uint16_t* values = nullptr;
};

// Copies slots 0 .. num_tokens - 1 of a page to another.
struct CopyPageTask {
  LayerShape shape;
  uint64_t source = 0;
  uint64_t destination = 0;
  int num_tokens = 0;
};

// Decodes a block, rounds to float16 (saturating) and encodes with another codec.
struct RecodeTask {
  LayerShape source_shape;
  uint64_t source = 0;
  CodecSpec codec;
  uint64_t destination = 0;
};

// One layer of one session: `blocks`, each of 64 tokens, then `num_exact` tokens in `pages`.
struct LayerView {
  LayerShape shape;
  absl::Span<const uint64_t> blocks;
  absl::Span<const uint64_t> pages;
  int num_exact = 0;

  int64_t length() const { return static_cast<int64_t>(blocks.size()) * kBlockTokens + num_exact; }
};

// A query over a layer: those of the newest num_tokens tokens. Row i sees the tokens
// start_position .. length - num_tokens + i, at least one.
struct Query {
  int num_tokens = 0;
  int num_query_heads = 0;
  // float32 [num_tokens, num_query_heads, head_dim].
  const float* data = nullptr;
  float scale = 0.0f;
  int64_t start_position = 0;
};

struct AttendTask {
  LayerView layer;
  Query query;
  // float32 [num_tokens, num_query_heads, head_dim].
  float* output = nullptr;
  // float32 [num_tokens, num_query_heads].
  float* lse = nullptr;
};

struct ScoreTask {
  LayerView layer;
  Query query;
  // Scores are probabilities: exp(scale * q.k - lse). Otherwise scale * q.k.
  bool softmax = false;
  // 0: `scores` is [num_tokens, num_query_heads, length - start_position]; what a row may not see
  // gets -infinity, or 0 with softmax. Otherwise scores and positions are [num_tokens,
  // num_query_heads, min(top_k, length - start_position)], descending, equal scores by ascending
  // position; positions are -1 (scores as above) where a row sees fewer.
  int top_k = 0;
  float* scores = nullptr;
  int64_t* positions = nullptr;
};

class Backend {
 public:
  virtual ~Backend() = default;
  Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;

  virtual const DeviceInfo& device() const = 0;
  // UNAVAILABLE, saying why, once the device has failed for good: all calls fail from then on.
  virtual absl::Status health() const { return absl::OkStatus(); }
  // Of the device, by all who use it; 0 where the device has no memory of its own.
  virtual DeviceMemory device_memory() const { return {}; }
  // The arena's size; offsets of units lie below it, multiples of kUnitAlignment.
  static constexpr size_t kUnitAlignment = 256;
  virtual uint64_t arena_bytes() const = 0;
  // Sizes of the units of a layer, multiples of kUnitAlignment. A page and what it holds do not
  // depend on the formats of keys and values: pages outlive a change of codec.
  virtual size_t BlockBytes(const LayerShape& shape) const = 0;
  virtual size_t PageBytes(const LayerShape& shape) const = 0;

  // RESOURCE_EXHAUSTED where the memory cannot be had. Must not outlive the backend.
  virtual absl::StatusOr<StagingBuffer> AllocateStaging(size_t size_bytes) = 0;

  // All compress tasks read their pages before any write task writes: a page may be both.
  virtual absl::Status Append(absl::Span<const CompressTask> compress,
                              absl::Span<const WritePageTask> write) = 0;
  virtual absl::Status CopyPages(absl::Span<const CopyPageTask> tasks) = 0;
  virtual absl::Status Recode(absl::Span<const RecodeTask> tasks) = 0;
  virtual absl::Status Attend(absl::Span<const AttendTask> tasks) = 0;
  virtual absl::Status ComputeScores(absl::Span<const ScoreTask> tasks) = 0;

  // The canonical bytes [blocks][num_kv_heads][head_bytes] of blocks, and back. WriteBlocks takes
  // what ValidateBlock accepts.
  virtual absl::Status ReadBlocks(const LayerShape& shape, absl::Span<const uint64_t> blocks,
                                  uint8_t* canonical) = 0;
  virtual absl::Status WriteBlocks(const LayerShape& shape, absl::Span<const uint64_t> blocks,
                                   const uint8_t* canonical) = 0;

  // Without the arena: float16 keys and values [num_tokens, num_kv_heads, head_dim], num_tokens a
  // multiple of 64, to canonical blocks [num_tokens / 64][num_kv_heads][head_bytes], and back to
  // float32.
  virtual absl::Status Encode(const LayerShape& shape, int64_t num_tokens, const uint16_t* keys,
                              const uint16_t* values, uint8_t* canonical) = 0;
  virtual absl::Status Decode(const LayerShape& shape, int64_t num_tokens, const uint8_t* canonical,
                              float* keys, float* values) = 0;

  // The reference formats of MUSTAFAR; see kernels/mustafar.
  virtual absl::StatusOr<mustafar::Tiles> CompressTiles(const mustafar::TileSpec& spec,
                                                        absl::Span<const uint16_t> dense) = 0;
  virtual absl::StatusOr<std::vector<float>> DecompressTiles(const mustafar::Tiles& tiles) = 0;
  // Scores [batch, num_tokens] of one float16 query [batch, head_dim] each, from key tiles.
  virtual absl::StatusOr<std::vector<float>> TileScores(const mustafar::Tiles& key_tiles,
                                                        absl::Span<const uint16_t> queries) = 0;
  // Outputs [batch, head_dim] from float32 weights [batch, num_tokens] and value tiles.
  virtual absl::StatusOr<std::vector<float>> TileOutputs(const mustafar::Tiles& value_tiles,
                                                         absl::Span<const float> weights) = 0;
};

}  // namespace kvattend

#endif  // KVATTEND_KERNELS_BACKEND_H_
