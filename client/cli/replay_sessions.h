// The second part of `kvattend replay`: the reference cache in sessions of every codec.
#ifndef KVATTEND_CLIENT_CLI_REPLAY_SESSIONS_H_
#define KVATTEND_CLIENT_CLI_REPLAY_SESSIONS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cli/progress.h"
#include "client/cli/reference_input.h"
#include "client/cpp/client.h"

namespace kvattend::cli {

// How far Attend may be from exact attention over the decompressed cache, relative to the largest
// value of a head: the server's own bound.
inline constexpr double kMaxKernelError = 1e-3;

// What a codec made of the reference cache.
struct CodecReplay {
  v1::Codec codec;
  int64_t stored_bytes = 0;
  int64_t dense_bytes = 0;
  double bits_per_element = 0;
  // Against exact attention over the original cache, as RelativeError: what the codec loses.
  double score_error = 0;
  double output_error = 0;
  // Attend against exact attention over the decompressed cache: what the kernels lose.
  double kernel_error = 0;
  // Medians: of an append of one token, of an Attend of one query token.
  absl::Duration append_latency;
  absl::Duration attend_latency;
  // Outputs, LSE and scores are the same to the bit where tokens came one by one and in chunks, and
  // where Attend was one of a batch.
  bool chunked_is_identical = false;
  bool batched_is_identical = false;

  bool ok() const {
    return chunked_is_identical && batched_is_identical && kernel_error <= kMaxKernelError;
  }
};

struct SessionReplayOptions {
  // Newest tokens that the sessions keep exact; 0 compresses all of the cache.
  int64_t recent_window = 0;
  // Leaves the sessions to whoever wants to look at them.
  bool keep = false;
};

// Makes two sessions for each of `codecs` (one layer, 8 KV heads, 8 query heads), appends the
// reference cache token by token to one and in chunks to the other, attends with the reference
// queries, and deletes the sessions again, on errors always.
absl::StatusOr<std::vector<CodecReplay>> ReplaySessions(const client::Client& client,
                                                        const ReferenceInput& input,
                                                        const std::vector<v1::Codec>& codecs,
                                                        const SessionReplayOptions& options,
                                                        Progress& progress);

}  // namespace kvattend::cli

#endif  // KVATTEND_CLIENT_CLI_REPLAY_SESSIONS_H_
