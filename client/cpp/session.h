// A handle on one session of the server.
//
// The handle knows the session as of its last answer: its revision, and the length of each layer as
// this handle left it. Appends carry both, so that the server applies each one exactly once. After
// an append that failed, whatever the reason, either append the same tokens again (those that the
// server has already are not added twice), or Refresh before anything else. If somebody else
// appends to the session too, appends fail with ABORTED POSITION_CONFLICT until Refresh.
//
// Not thread-safe: const methods may run at the same time, others not. Copies are independent
// handles. Destroying a handle leaves the session; Delete frees it.
#ifndef KVATTEND_CLIENT_CPP_SESSION_H_
#define KVATTEND_CLIENT_CPP_SESSION_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/cpp/client_options.h"
#include "client/cpp/tensor.h"
#include "kvattend/v1/attention_service.pb.h"
#include "kvattend/v1/session_service.pb.h"

namespace kvattend::client {

class Connection;
struct AppendChunk;

// Tokens for some layers.
struct AppendInput {
  // Distinct, and of equal length.
  std::vector<int> layers;
  int64_t num_tokens = 0;
  v1::DataType dtype = v1::DATA_TYPE_FLOAT16;
  // For each layer a tensor [num_tokens, num_kv_heads, head_dim], one after the other. Borrowed for
  // the call.
  absl::Span<const std::byte> keys;
  absl::Span<const std::byte> values;
};

// Queries over one layer.
struct Query {
  int layer = 0;
  // The newest tokens of the layer, causal among themselves; 1 to limits().max_query_tokens.
  int num_tokens = 1;
  // [num_tokens, num_query_heads, head_dim]. Borrowed for the call.
  absl::Span<const std::byte> queries;
  // Multiplies q.k; 1 / sqrt(head_dim) when unset (1 for raw scores).
  std::optional<float> scale;
  // Only tokens from here on: a sliding window.
  int64_t start_position = 0;
  // FAILED_PRECONDITION POSITION_NOT_REACHED where the layer is shorter.
  int64_t min_position = 0;
};

struct AttendOptions {
  // Of the queries.
  v1::DataType dtype = v1::DATA_TYPE_FLOAT16;
  v1::DataType output_dtype = v1::DATA_TYPE_FLOAT32;
};

struct AttendOutput {
  // Tokens of the layer when it was attended to.
  int64_t position = 0;
  // [num_tokens, num_query_heads, head_dim].
  v1::Tensor outputs;
  // [num_tokens, num_query_heads]: natural logarithm of the sum of exp(scale * q.k).
  std::vector<float> lse;
};

struct ScoreOptions {
  v1::DataType dtype = v1::DATA_TYPE_FLOAT16;
  // Softmax over the tokens; q.k times scale otherwise.
  bool softmax = false;
  // 0: every token's score. Otherwise the best ones of each query.
  int top_k = 0;
};

struct ScoresOutput {
  int64_t position = 0;
  // The last dimension of `scores`.
  int64_t num_scores = 0;
  // [num_tokens, num_query_heads, num_scores], from start_position on, or in descending order.
  std::vector<float> scores;
  // Only with top_k, shaped as `scores`: the tokens' positions, -1 where there is none.
  std::vector<int64_t> positions;
};

class Session {
 public:
  // "sessions/{id}".
  const std::string& name() const { return info_.name(); }
  // As of the last call that answered with the session: creation, Refresh, Compress, Truncate.
  const v1::Session& info() const { return info_; }
  int64_t revision() const { return info_.revision(); }
  // Tokens of a layer as this handle knows it: the next append's position.
  int64_t position(int layer) const { return info_.layer_lengths(layer); }

  // Reads the session again.
  absl::Status Refresh(const CallOptions& options = {});

  // Adds tokens, in as many calls as the server's message limit asks for; each call is all or
  // nothing. On an error the handle is as it was, though the server may have some of the tokens.
  absl::Status Append(const AppendInput& input, const CallOptions& options = {});

  absl::StatusOr<AttendOutput> Attend(const Query& query, const AttendOptions& attend_options = {},
                                      const CallOptions& options = {}) const;
  absl::StatusOr<ScoresOutput> ComputeScores(const Query& query,
                                             const ScoreOptions& score_options = {},
                                             const CallOptions& options = {}) const;

  // A session with the same tokens that shares this one's memory. `id` as in SessionOptions.
  absl::StatusOr<Session> Fork(const std::string& id = "", const CallOptions& options = {}) const;
  // Drops the tokens from `length` on. Gives the bytes freed.
  absl::StatusOr<int64_t> Truncate(int64_t length, const CallOptions& options = {});
  // Codes exact tokens now, down to keep_exact (the recent window when unset), and re-encodes the
  // session where `codec` is set. Gives the bytes freed.
  absl::StatusOr<int64_t> Compress(std::optional<int64_t> keep_exact,
                                   const std::optional<v1::Codec>& codec,
                                   const CallOptions& options = {});
  // Frees the session on the server; every later call gives NOT_FOUND. Gives the bytes freed.
  absl::StatusOr<int64_t> Delete(const CallOptions& options = {});

 private:
  friend class Client;
  Session(std::shared_ptr<Connection> connection, v1::Session info);

  // The placement key to send; empty for none.
  std::string shard() const;
  // The parts of Append. AddChunk fills an item and its tensors into `request`, whose type is the
  // input's; AdvancePast notes that the server has the chunk.
  absl::Status ValidateInput(const AppendInput& input) const;
  absl::Status AppendUntil(absl::Time deadline, const AppendInput& input);
  void AddChunk(const AppendInput& input, const AppendChunk& chunk,
                v1::AppendRequest* request) const;
  void AdvancePast(const AppendInput& input, const AppendChunk& chunk);

  std::shared_ptr<Connection> connection_;
  v1::Session info_;
};

}  // namespace kvattend::client

#endif  // KVATTEND_CLIENT_CPP_SESSION_H_
