#include "client/cpp/client.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cpp/chunking.h"
#include "client/cpp/connection.h"
#include "client/cpp/session_calls.h"
#include "client/cpp/status_conversion.h"

namespace kvattend::client {
namespace {

// The largest page that the server gives.
constexpr int kListPageSize = 1000;

// What an item adds to an Attend call and to its answer.
BatchItem MeasureItem(const AttendItem& item, v1::DataType output_dtype, std::string shard) {
  const v1::ModelShape& shape = item.session->info().model_shape();
  const int64_t num_rows = int64_t{item.query.num_tokens} * shape.num_query_heads();
  const int64_t row_bytes = shape.head_dim() * DataTypeBytes(output_dtype) +
                            static_cast<int64_t>(sizeof(float));  // and the LSE
  return {.shard = std::move(shard),
          .request_bytes = static_cast<int64_t>(item.query.queries.size()),
          .response_bytes = num_rows * row_bytes};
}

}  // namespace

Client::Client(std::shared_ptr<Connection> connection) : connection_(std::move(connection)) {}

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(const std::string& target,
                                                        ClientOptions options) {
  auto connection = std::make_shared<Connection>(target, std::move(options));
  if (absl::Status status = connection->FetchLimits(); !status.ok()) return status;
  return std::unique_ptr<Client>(new Client(std::move(connection)));
}

const v1::Limits& Client::limits() const { return connection_->limits(); }

absl::StatusOr<v1::GetServerInfoResponse> Client::GetServerInfo(const CallOptions& options) const {
  v1::GetServerInfoResponse response;
  const absl::Status status =
      connection_->Call(connection_->Deadline(options), "", [&](grpc::ClientContext* context) {
        return FromGrpcStatus(connection_->server().GetServerInfo(context, {}, &response));
      });
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<Session> Client::CreateSession(const SessionOptions& session,
                                              const CallOptions& options) const {
  v1::CreateSessionRequest request;
  request.set_session_id(session.id.empty() ? RandomSessionId() : session.id);
  *request.mutable_model_shape() = session.model_shape;
  *request.mutable_codec() = session.codec;
  if (session.recent_window.has_value()) request.set_recent_window(*session.recent_window);
  std::string shard = session.shard;
  if (shard.empty() && connection_->options().send_shard) shard = request.session_id();
  auto info = MakeSession(
      *connection_, connection_->Deadline(options), shard, request.session_id(), session.id.empty(),
      [&](grpc::ClientContext* context) -> absl::StatusOr<v1::Session> {
        v1::CreateSessionResponse response;
        const absl::Status status =
            FromGrpcStatus(connection_->sessions().CreateSession(context, request, &response));
        if (!status.ok()) return status;
        return std::move(*response.mutable_session());
      });
  if (!info.ok()) return info.status();
  return Session(connection_, *std::move(info));
}

absl::StatusOr<Session> Client::OpenSession(absl::string_view name, absl::string_view shard,
                                            const CallOptions& options) const {
  const bool is_full_name = absl::StartsWith(name, "sessions/");
  v1::Session known;
  known.set_name(is_full_name ? std::string(name) : absl::StrCat("sessions/", name));
  known.set_shard(std::string(shard));
  Session session(connection_, std::move(known));
  if (absl::Status status = session.Refresh(options); !status.ok()) return status;
  return session;
}

absl::StatusOr<std::vector<v1::Session>> Client::ListSessions(const CallOptions& options) const {
  const absl::Time deadline = connection_->Deadline(options);
  std::vector<v1::Session> sessions;
  v1::ListSessionsRequest request;
  request.set_page_size(kListPageSize);
  do {
    v1::ListSessionsResponse response;
    const absl::Status status = connection_->Call(deadline, "", [&](grpc::ClientContext* context) {
      return FromGrpcStatus(connection_->sessions().ListSessions(context, request, &response));
    });
    if (!status.ok()) return status;
    for (v1::Session& session : *response.mutable_sessions()) {
      sessions.push_back(std::move(session));
    }
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  return sessions;
}

std::vector<absl::Status> Client::Append(absl::Span<const AppendItem> items,
                                         const CallOptions& options) const {
  const absl::Time deadline = connection_->Deadline(options);
  std::vector<absl::Status> results(items.size());
  std::vector<size_t> valid;
  std::vector<BatchItem> sizes;
  for (size_t i = 0; i < items.size(); ++i) {
    const AppendItem& item = items[i];
    results[i] = item.session->ValidateInput(item.input);
    if (!results[i].ok()) continue;
    valid.push_back(i);
    // A call has one type. Answers are small: a status each.
    sizes.push_back(
        {.shard = absl::StrCat(item.session->shard(), "/", item.input.dtype),
         .request_bytes = static_cast<int64_t>(item.input.keys.size() + item.input.values.size())});
  }
  for (std::vector<size_t>& batch : PlanBatches(sizes, connection_->limits().max_items_per_call(),
                                                connection_->limits().max_message_bytes())) {
    for (size_t& index : batch) index = valid[index];
    if (batch.size() == 1) {
      // Perhaps too large for one message.
      const AppendItem& item = items[batch.front()];
      results[batch.front()] = item.session->AppendUntil(deadline, item.input);
    } else {
      AppendBatch(deadline, items, batch, &results);
    }
  }
  return results;
}

void Client::AppendBatch(absl::Time deadline, absl::Span<const AppendItem> items,
                         absl::Span<const size_t> batch, std::vector<absl::Status>* results) const {
  const auto whole = [](const AppendInput& input) {
    return AppendChunk{.num_layers = static_cast<int>(input.layers.size()),
                       .num_tokens = input.num_tokens};
  };
  v1::AppendRequest request;
  request.set_dtype(items[batch.front()].input.dtype);
  for (size_t i : batch) {
    items[i].session->AddChunk(items[i].input, whole(items[i].input), &request);
  }
  absl::StatusOr<std::vector<absl::Status>> statuses;
  const absl::Status call = connection_->Call(
      deadline, items[batch.front()].session->shard(), [&](grpc::ClientContext* context) {
        statuses = AppendOnce(*connection_, context, request);
        return statuses.status();
      });
  for (size_t n = 0; n < batch.size(); ++n) {
    const AppendItem& item = items[batch[n]];
    absl::Status& result = (*results)[batch[n]];
    result = call.ok() ? (*statuses)[n] : call;
    if (result.ok()) item.session->AdvancePast(item.input, whole(item.input));
  }
}

std::vector<absl::StatusOr<AttendOutput>> Client::Attend(absl::Span<const AttendItem> items,
                                                         const AttendOptions& attend_options,
                                                         const CallOptions& options) const {
  const absl::Time deadline = connection_->Deadline(options);
  std::vector<BatchItem> sizes;
  for (const AttendItem& item : items) {
    sizes.push_back(MeasureItem(item, attend_options.output_dtype, item.session->shard()));
  }
  std::vector<absl::StatusOr<AttendOutput>> results(items.size());
  for (const std::vector<size_t>& batch :
       PlanBatches(sizes, connection_->limits().max_items_per_call(),
                   connection_->limits().max_message_bytes())) {
    std::vector<AttendTarget> targets;
    for (size_t i : batch) targets.push_back({&items[i].session->info(), &items[i].query});
    auto answer =
        CallAttend(*connection_, deadline, sizes[batch.front()].shard, targets, attend_options);
    for (size_t n = 0; n < batch.size(); ++n) {
      results[batch[n]] = answer.ok() ? std::move((*answer)[n]) : answer.status();
    }
  }
  return results;
}

}  // namespace kvattend::client
