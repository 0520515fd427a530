#include "client/cpp/session.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/cpp/chunking.h"
#include "client/cpp/connection.h"
#include "client/cpp/session_calls.h"
#include "client/cpp/status_conversion.h"

namespace kvattend::client {
namespace {

// Bytes of one layer's token: keys, or values.
int64_t RowBytes(const v1::ModelShape& shape, v1::DataType dtype) {
  return int64_t{shape.num_kv_heads()} * shape.head_dim() * DataTypeBytes(dtype);
}

// Adds the chunk's part of `tensors`, [layers][num_tokens][row], to `target`.
void AppendSlice(absl::Span<const std::byte> tensors, const AppendChunk& chunk, int64_t num_tokens,
                 int64_t row_bytes, std::string* target) {
  for (int i = 0; i < chunk.num_layers; ++i) {
    const int64_t first_row = (chunk.first_layer + i) * num_tokens + chunk.first_token;
    target->append(reinterpret_cast<const char*>(tensors.data()) + first_row * row_bytes,
                   chunk.num_tokens * row_bytes);
  }
}

}  // namespace

Session::Session(std::shared_ptr<Connection> connection, v1::Session info)
    : connection_(std::move(connection)), info_(std::move(info)) {}

std::string Session::shard() const {
  if (!connection_->options().send_shard) return "";
  if (!info_.shard().empty()) return info_.shard();
  return std::string(absl::StripPrefix(name(), "sessions/"));
}

absl::Status Session::Refresh(const CallOptions& options) {
  auto info = GetSession(*connection_, connection_->Deadline(options), shard(), name());
  if (!info.ok()) return info.status();
  info_ = *std::move(info);
  return absl::OkStatus();
}

absl::Status Session::ValidateInput(const AppendInput& input) const {
  if (input.layers.empty() || input.num_tokens <= 0) {
    return absl::InvalidArgumentError("an append names at least one layer and one token");
  }
  for (int layer : input.layers) {
    if (layer < 0 || layer >= info_.layer_lengths_size()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "layer ", layer, " is not one of the session's ", info_.layer_lengths_size()));
    }
  }
  const int64_t expected = static_cast<int64_t>(input.layers.size()) * input.num_tokens *
                           RowBytes(info_.model_shape(), input.dtype);
  for (const auto& data : {input.keys, input.values}) {
    if (static_cast<int64_t>(data.size()) != expected || expected == 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "keys and values are ", expected, " bytes each by their shape; found ", data.size()));
    }
  }
  return absl::OkStatus();
}

absl::Status Session::Append(const AppendInput& input, const CallOptions& options) {
  if (absl::Status status = ValidateInput(input); !status.ok()) return status;
  return AppendUntil(connection_->Deadline(options), input);
}

absl::Status Session::AppendUntil(absl::Time deadline, const AppendInput& input) {
  const int64_t token_bytes = 2 * RowBytes(info_.model_shape(), input.dtype);
  const v1::Session before = info_;
  for (const AppendChunk& chunk :
       PlanAppend(static_cast<int>(input.layers.size()), input.num_tokens, token_bytes,
                  connection_->limits().max_message_bytes())) {
    v1::AppendRequest request;
    request.set_dtype(input.dtype);
    AddChunk(input, chunk, &request);
    absl::Status status = connection_->Call(deadline, shard(), [&](grpc::ClientContext* context) {
      const auto results = AppendOnce(*connection_, context, request);
      return results.ok() ? results->front() : results.status();
    });
    if (!status.ok()) {
      // So that the same append again finds its first chunks there.
      info_ = before;
      return status;
    }
    AdvancePast(input, chunk);
  }
  return absl::OkStatus();
}

void Session::AddChunk(const AppendInput& input, const AppendChunk& chunk,
                       v1::AppendRequest* request) const {
  const v1::ModelShape& shape = info_.model_shape();
  v1::AppendItem& item = *request->add_items();
  item.set_session(name());
  item.set_revision(revision());
  item.set_expected_position(position(input.layers[chunk.first_layer]));
  for (int i = 0; i < chunk.num_layers; ++i) item.add_layers(input.layers[chunk.first_layer + i]);
  item.set_num_tokens(static_cast<int>(chunk.num_tokens));
  item.set_num_kv_heads(shape.num_kv_heads());
  item.set_head_dim(shape.head_dim());
  const int64_t row_bytes = RowBytes(shape, input.dtype);
  AppendSlice(input.keys, chunk, input.num_tokens, row_bytes, request->mutable_keys());
  AppendSlice(input.values, chunk, input.num_tokens, row_bytes, request->mutable_values());
}

void Session::AdvancePast(const AppendInput& input, const AppendChunk& chunk) {
  // After a replay too: the next tokens of this caller are those that follow, however many the
  // server has.
  const int64_t end = position(input.layers[chunk.first_layer]) + chunk.num_tokens;
  for (int i = 0; i < chunk.num_layers; ++i) {
    info_.set_layer_lengths(input.layers[chunk.first_layer + i], end);
  }
  info_.set_length(*std::min_element(info_.layer_lengths().begin(), info_.layer_lengths().end()));
}

absl::StatusOr<AttendOutput> Session::Attend(const Query& query,
                                             const AttendOptions& attend_options,
                                             const CallOptions& options) const {
  const AttendTarget target = {&info_, &query};
  auto results = CallAttend(*connection_, connection_->Deadline(options), shard(), {&target, 1},
                            attend_options);
  if (!results.ok()) return results.status();
  return std::move(results->front());
}

absl::StatusOr<ScoresOutput> Session::ComputeScores(const Query& query,
                                                    const ScoreOptions& score_options,
                                                    const CallOptions& options) const {
  v1::ComputeScoresRequest request;
  request.set_dtype(score_options.dtype);
  request.set_mode(score_options.softmax ? v1::SCORE_MODE_SOFTMAX : v1::SCORE_MODE_RAW);
  request.set_top_k(score_options.top_k);
  *request.add_items() = MakeAttendItem(info_, query);
  request.set_queries(query.queries.data(), query.queries.size());

  v1::ComputeScoresResponse response;
  const absl::Status status =
      connection_->Call(connection_->Deadline(options), shard(), [&](grpc::ClientContext* context) {
        absl::Status call =
            FromGrpcStatus(connection_->attention().ComputeScores(context, request, &response));
        if (!call.ok()) return call;
        if (response.results_size() != 1) {
          return absl::InternalError("the server's answer is malformed: count of results");
        }
        return FromProtoStatus(response.results(0).status());
      });
  if (!status.ok()) return status;
  ScoresOutput output;
  output.position = response.results(0).position();
  output.num_scores = response.results(0).num_scores();
  output.scores = ToFloats(v1::DATA_TYPE_FLOAT32, AsBytes(response.scores()));
  output.positions.resize(response.positions().size() / sizeof(int64_t));
  std::copy_n(response.positions().data(), output.positions.size() * sizeof(int64_t),
              reinterpret_cast<char*>(output.positions.data()));
  const int64_t num_rows = int64_t{query.num_tokens} * info_.model_shape().num_query_heads();
  if (static_cast<int64_t>(output.scores.size()) != num_rows * output.num_scores) {
    return absl::InternalError("the server's answer is malformed: size of scores");
  }
  return output;
}

absl::StatusOr<Session> Session::Fork(const std::string& id, const CallOptions& options) const {
  v1::ForkSessionRequest request;
  request.set_name(name());
  request.set_session_id(id.empty() ? RandomSessionId() : id);
  auto info = MakeSession(
      *connection_, connection_->Deadline(options), shard(), request.session_id(), id.empty(),
      [&](grpc::ClientContext* context) -> absl::StatusOr<v1::Session> {
        v1::ForkSessionResponse response;
        const absl::Status status =
            FromGrpcStatus(connection_->sessions().ForkSession(context, request, &response));
        if (!status.ok()) return status;
        return std::move(*response.mutable_session());
      });
  if (!info.ok()) return info.status();
  return Session(connection_, *std::move(info));
}

absl::StatusOr<int64_t> Session::Truncate(int64_t length, const CallOptions& options) {
  v1::TruncateSessionRequest request;
  request.set_name(name());
  request.set_length(length);
  v1::TruncateSessionResponse response;
  const absl::Status status =
      connection_->Call(connection_->Deadline(options), shard(), [&](grpc::ClientContext* context) {
        return FromGrpcStatus(connection_->sessions().TruncateSession(context, request, &response));
      });
  if (!status.ok()) return status;
  info_ = std::move(*response.mutable_session());
  return response.freed_bytes();
}

absl::StatusOr<int64_t> Session::Compress(std::optional<int64_t> keep_exact,
                                          const std::optional<v1::Codec>& codec,
                                          const CallOptions& options) {
  v1::CompressSessionRequest request;
  request.set_name(name());
  if (keep_exact.has_value()) request.set_keep_exact(*keep_exact);
  if (codec.has_value()) *request.mutable_codec() = *codec;
  v1::CompressSessionResponse response;
  const absl::Status status =
      connection_->Call(connection_->Deadline(options), shard(), [&](grpc::ClientContext* context) {
        return FromGrpcStatus(connection_->sessions().CompressSession(context, request, &response));
      });
  if (!status.ok()) return status;
  info_ = std::move(*response.mutable_session());
  return response.freed_bytes();
}

absl::StatusOr<int64_t> Session::Delete(const CallOptions& options) {
  v1::DeleteSessionRequest request;
  request.set_name(name());
  v1::DeleteSessionResponse response;
  const absl::Status status =
      connection_->Call(connection_->Deadline(options), shard(), [&](grpc::ClientContext* context) {
        return FromGrpcStatus(connection_->sessions().DeleteSession(context, request, &response));
      });
  if (!status.ok()) return status;
  return response.freed_bytes();
}

}  // namespace kvattend::client
