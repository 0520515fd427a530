#include "client/cli/replay_sessions.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "client/cli/exact_attention.h"
#include "client/cli/files.h"
#include "client/cli/plan.h"
#include "client/cpp/codec_client.h"
#include "client/cpp/tensor.h"

namespace kvattend::cli {
namespace {

using client::AsBytes;
using client::AttendOutput;
using client::ScoresOutput;
using client::Session;
using client::TensorView;

constexpr AttentionShape kShape = ReferenceInput::kShape;
constexpr int64_t kRowBytes = kShape.head_dim * static_cast<int64_t>(sizeof(uint16_t));
// Tokens of the chunked appends: across block borders, on them, and short of them.
constexpr int64_t kChunks[] = {1, 63, 65, 127};
// Attends whose median is the latency.
constexpr int kTimedAttends = 25;

// The cache as a session wants it, [tokens, heads, head_dim].
struct TokenMajorCache {
  std::string keys;
  std::string values;

  TensorView View(const std::string& data) const {
    return {v1::DATA_TYPE_FLOAT16,
            {kShape.tokens, kShape.heads, kShape.head_dim},
            AsBytes(absl::string_view(data))};
  }
};

// What the server says about a session; compared to the bit.
struct Answer {
  AttendOutput attention;
  ScoresOutput scores;
};

// Two sessions of a codec with the same tokens.
struct SessionPair {
  Session token_by_token;
  Session chunked;
};

absl::Duration Elapsed(std::chrono::steady_clock::time_point start) {
  return absl::FromChrono(std::chrono::steady_clock::now() - start);
}

absl::Duration Median(std::vector<absl::Duration> times) {
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  return times[times.size() / 2];
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}
bool SameBits(const AttendOutput& a, const AttendOutput& b) {
  return a.outputs.data() == b.outputs.data() && SameBits(a.lse, b.lse);
}

client::Query ReferenceQuery(const ReferenceInput& input) {
  return {.queries = AsBytes(absl::string_view(input.queries)), .min_position = kShape.tokens};
}

absl::Status AppendTokens(const TokenMajorCache& cache, int64_t first, int64_t count,
                          Session* session) {
  const int64_t token_bytes = kShape.heads * kRowBytes;
  const auto slice = [&](const std::string& data) {
    return AsBytes(absl::string_view(data)).subspan(first * token_bytes, count * token_bytes);
  };
  return session->Append({.layers = {0},
                          .num_tokens = count,
                          .keys = slice(cache.keys),
                          .values = slice(cache.values)});
}

// Appends one token a call; gives the median time of a call.
absl::StatusOr<absl::Duration> FillTokenByToken(const TokenMajorCache& cache, Session* session) {
  std::vector<absl::Duration> times;
  for (int64_t token = 0; token < kShape.tokens; ++token) {
    const auto start = std::chrono::steady_clock::now();
    if (auto status = AppendTokens(cache, token, 1, session); !status.ok()) return status;
    times.push_back(Elapsed(start));
  }
  return Median(std::move(times));
}

absl::Status FillInChunks(const TokenMajorCache& cache, Session* session) {
  int64_t first = 0;
  for (int64_t count : kChunks) {
    if (auto status = AppendTokens(cache, first, count, session); !status.ok()) return status;
    first += count;
  }
  return absl::OkStatus();
}

absl::StatusOr<Answer> Ask(const Session& session, const ReferenceInput& input) {
  auto attention = session.Attend(ReferenceQuery(input));
  if (!attention.ok()) return attention.status();
  auto scores = session.ComputeScores(ReferenceQuery(input));
  if (!scores.ok()) return scores.status();
  return Answer{*std::move(attention), *std::move(scores)};
}

absl::StatusOr<absl::Duration> TimeAttend(const Session& session, const ReferenceInput& input) {
  std::vector<absl::Duration> times;
  for (int i = 0; i < kTimedAttends; ++i) {
    const auto start = std::chrono::steady_clock::now();
    if (auto output = session.Attend(ReferenceQuery(input)); !output.ok()) return output.status();
    times.push_back(Elapsed(start));
  }
  return Median(std::move(times));
}

// A token-major float tensor of the server as [heads, tokens, head_dim].
std::vector<float> HeadMajorFloats(const v1::Tensor& tensor) {
  const std::string swapped =
      SwapOuterDimensions(tensor.data(), kShape.tokens, kShape.heads,
                          kShape.head_dim * client::DataTypeBytes(tensor.dtype()));
  return client::ToFloats(tensor.dtype(), AsBytes(absl::string_view(swapped)));
}

// What the session's cache decodes to: its blocks decompressed, its newest tokens as they were.
absl::Status DecodeCache(const client::CodecClient& codec_client, const v1::Codec& codec,
                         const TokenMajorCache& cache, int64_t num_compressed,
                         std::vector<float>* keys, std::vector<float>* values) {
  if (num_compressed == 0) return absl::OkStatus();
  const auto blocks =
      codec_client.Compress(codec, cache.View(cache.keys), cache.View(cache.values));
  if (!blocks.ok()) return blocks.status();
  const auto dense = codec_client.Decompress(*blocks);
  if (!dense.ok()) return dense.status();
  const std::vector<float> decoded_keys = HeadMajorFloats(dense->keys);
  const std::vector<float> decoded_values = HeadMajorFloats(dense->values);
  if (decoded_keys.size() != keys->size() || decoded_values.size() != values->size()) {
    return absl::InternalError("decompression gave a cache of another size");
  }
  for (int64_t head = 0; head < kShape.heads; ++head) {
    const int64_t first = head * kShape.tokens * kShape.head_dim;
    const int64_t count = num_compressed * kShape.head_dim;
    std::copy_n(&decoded_keys[first], count, &(*keys)[first]);
    std::copy_n(&decoded_values[first], count, &(*values)[first]);
  }
  return absl::OkStatus();
}

std::vector<double> Attention(const ReferenceInput& input, absl::Span<const float> keys,
                              absl::Span<const float> values) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(kShape.head_dim));
  return ExactOutputs(kShape, ExactScores(kShape, input.query_floats, keys), scale, values);
}

absl::StatusOr<Session> MakeSession(const client::Client& client, const v1::Codec& codec,
                                    int64_t recent_window) {
  client::SessionOptions options;
  options.model_shape.set_num_layers(1);
  options.model_shape.set_num_query_heads(static_cast<int>(kShape.heads));
  options.model_shape.set_num_kv_heads(static_cast<int>(kShape.heads));
  options.model_shape.set_head_dim(static_cast<int>(kShape.head_dim));
  // By its formats, which no preset's name can contradict.
  *options.codec.mutable_keys() = codec.keys();
  *options.codec.mutable_values() = codec.values();
  options.recent_window = recent_window;
  return client.CreateSession(options);
}

// Fills the pair and compares what it answers; everything but batched_is_identical.
absl::StatusOr<CodecReplay> ReplayCodec(const client::Client& client, const ReferenceInput& input,
                                        const TokenMajorCache& cache, const v1::Codec& codec,
                                        SessionPair* pair, AttendOutput* alone) {
  CodecReplay replay;
  replay.codec = codec;
  const auto append_latency = FillTokenByToken(cache, &pair->token_by_token);
  if (!append_latency.ok()) return append_latency.status();
  if (auto status = FillInChunks(cache, &pair->chunked); !status.ok()) return status;
  const auto answer = Ask(pair->token_by_token, input);
  if (!answer.ok()) return answer.status();
  const auto chunked_answer = Ask(pair->chunked, input);
  if (!chunked_answer.ok()) return chunked_answer.status();
  const auto attend_latency = TimeAttend(pair->token_by_token, input);
  if (!attend_latency.ok()) return attend_latency.status();
  if (auto status = pair->token_by_token.Refresh(); !status.ok()) return status;
  const v1::Session& info = pair->token_by_token.info();

  std::vector<float> keys = input.key_floats;
  std::vector<float> values = input.value_floats;
  const int64_t num_compressed =
      UnitsPerLayer(kShape.tokens, info.recent_window()).blocks * kBlockTokens;
  if (auto status =
          DecodeCache(client::CodecClient(client), codec, cache, num_compressed, &keys, &values);
      !status.ok()) {
    return status;
  }
  const std::vector<float> outputs =
      client::ToFloats(answer->attention.outputs.dtype(),
                       AsBytes(absl::string_view(answer->attention.outputs.data())));
  const std::vector<double> exact_scores =
      ExactScores(kShape, input.query_floats, input.key_floats);
  const std::vector<double> exact_outputs = Attention(input, input.key_floats, input.value_floats);
  replay.stored_bytes = info.stored_bytes();
  replay.dense_bytes = info.dense_bytes();
  replay.bits_per_element = 16.0 * static_cast<double>(info.stored_bytes()) /
                            static_cast<double>(std::max<int64_t>(info.dense_bytes(), 1));
  replay.score_error = RelativeError(kShape.heads, answer->scores.scores, exact_scores);
  replay.output_error = RelativeError(kShape.heads, outputs, exact_outputs);
  replay.kernel_error = RelativeError(kShape.heads, outputs, Attention(input, keys, values));
  replay.append_latency = *append_latency;
  replay.attend_latency = *attend_latency;
  replay.chunked_is_identical = SameBits(answer->attention, chunked_answer->attention) &&
                                SameBits(answer->scores.scores, chunked_answer->scores.scores);
  *alone = answer->attention;
  return replay;
}

}  // namespace

absl::StatusOr<std::vector<CodecReplay>> ReplaySessions(const client::Client& client,
                                                        const ReferenceInput& input,
                                                        const std::vector<v1::Codec>& codecs,
                                                        const SessionReplayOptions& options,
                                                        Progress& progress) {
  const TokenMajorCache cache = {
      SwapOuterDimensions(input.keys, kShape.heads, kShape.tokens, kRowBytes),
      SwapOuterDimensions(input.values, kShape.heads, kShape.tokens, kRowBytes)};
  std::vector<Session> made;
  auto delete_sessions = absl::MakeCleanup([&made] {
    for (Session& session : made) session.Delete().IgnoreError();
  });

  std::vector<CodecReplay> replays;
  std::vector<AttendOutput> alone(codecs.size());
  std::vector<Session> to_batch;
  for (size_t i = 0; i < codecs.size(); ++i) {
    progress.Show(
        absl::StrCat("sessions: ", codecs[i].preset(), " (", i + 1, " of ", codecs.size(), ")"));
    for (int n = 0; n < 2; ++n) {
      auto session = MakeSession(client, codecs[i], options.recent_window);
      if (!session.ok()) return session.status();
      made.push_back(*std::move(session));
    }
    SessionPair pair = {made[2 * i], made[2 * i + 1]};
    auto replay = ReplayCodec(client, input, cache, codecs[i], &pair, &alone[i]);
    if (!replay.ok()) return replay.status();
    replays.push_back(*std::move(replay));
    to_batch.push_back(std::move(pair.token_by_token));
  }

  progress.Show("sessions: all in one batch");
  std::vector<client::AttendItem> items;
  for (const Session& session : to_batch) items.push_back({&session, ReferenceQuery(input)});
  const auto batched = client.Attend(items);
  for (size_t i = 0; i < batched.size(); ++i) {
    if (!batched[i].ok()) return batched[i].status();
    replays[i].batched_is_identical = SameBits(*batched[i], alone[i]);
  }
  if (options.keep) std::move(delete_sessions).Cancel();
  return replays;
}

}  // namespace kvattend::cli
