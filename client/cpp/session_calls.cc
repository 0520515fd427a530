#include "client/cpp/session_calls.h"

#include <cstring>

#include "absl/random/random.h"
#include "absl/strings/str_cat.h"
#include "client/cpp/status_conversion.h"

namespace kvattend::client {
namespace {

absl::Status MalformedResponse(absl::string_view what) {
  return absl::InternalError(absl::StrCat("the server's answer is malformed: ", what));
}

// Takes `size` bytes off the front of `rest`; false where there are fewer.
bool TakeBytes(int64_t size, absl::string_view* rest, absl::string_view* taken) {
  if (static_cast<int64_t>(rest->size()) < size) return false;
  *taken = rest->substr(0, size);
  rest->remove_prefix(size);
  return true;
}

absl::StatusOr<std::vector<absl::StatusOr<AttendOutput>>> SplitAnswer(
    const v1::AttendRequest& request, const v1::AttendResponse& response) {
  if (response.results_size() != request.items_size()) return MalformedResponse("count of results");
  std::vector<absl::StatusOr<AttendOutput>> outputs;
  absl::string_view output_bytes = response.outputs();
  absl::string_view lse_bytes = response.lse();
  for (int i = 0; i < request.items_size(); ++i) {
    const v1::AttendItem& item = request.items(i);
    if (response.results(i).status().code() != 0) {
      outputs.push_back(FromProtoStatus(response.results(i).status()));
      continue;
    }
    const int64_t num_rows = int64_t{item.num_tokens()} * item.num_query_heads();
    AttendOutput output;
    output.position = response.results(i).position();
    output.outputs.set_dtype(response.output_dtype());
    for (int size : {item.num_tokens(), item.num_query_heads(), item.head_dim()}) {
      output.outputs.add_shape(size);
    }
    absl::string_view data, lse;
    if (!TakeBytes(num_rows * item.head_dim() * DataTypeBytes(response.output_dtype()),
                   &output_bytes, &data) ||
        !TakeBytes(num_rows * static_cast<int64_t>(sizeof(float)), &lse_bytes, &lse)) {
      return MalformedResponse("size of outputs");
    }
    output.outputs.set_data(data.data(), data.size());
    output.lse = ToFloats(v1::DATA_TYPE_FLOAT32, AsBytes(lse));
    outputs.push_back(std::move(output));
  }
  return outputs;
}

}  // namespace

std::string RandomSessionId() {
  absl::BitGen generator;
  return absl::StrCat(absl::Hex(absl::Uniform<uint64_t>(generator), absl::kZeroPad16),
                      absl::Hex(absl::Uniform<uint64_t>(generator), absl::kZeroPad16));
}

absl::StatusOr<v1::Session> GetSession(const Connection& connection, absl::Time deadline,
                                       absl::string_view shard, const std::string& name) {
  v1::GetSessionRequest request;
  request.set_name(name);
  v1::GetSessionResponse response;
  const absl::Status status = connection.Call(deadline, shard, [&](grpc::ClientContext* context) {
    return FromGrpcStatus(connection.sessions().GetSession(context, request, &response));
  });
  if (!status.ok()) return status;
  return std::move(*response.mutable_session());
}

absl::StatusOr<v1::Session> MakeSession(
    const Connection& connection, absl::Time deadline, absl::string_view shard,
    const std::string& id, bool is_random_id,
    absl::FunctionRef<absl::StatusOr<v1::Session>(grpc::ClientContext*)> create) {
  absl::StatusOr<v1::Session> session;
  int attempts = 0;
  const absl::Status status = connection.Call(deadline, shard, [&](grpc::ClientContext* context) {
    ++attempts;
    session = create(context);
    return session.status();
  });
  if (absl::IsAlreadyExists(status) && is_random_id && attempts > 1) {
    return GetSession(connection, deadline, shard, absl::StrCat("sessions/", id));
  }
  return session;
}

absl::StatusOr<std::vector<absl::Status>> AppendOnce(const Connection& connection,
                                                     grpc::ClientContext* context,
                                                     const v1::AppendRequest& request) {
  v1::AppendResponse response;
  const absl::Status status =
      FromGrpcStatus(connection.attention().Append(context, request, &response));
  if (!status.ok()) return status;
  if (response.results_size() != request.items_size()) return MalformedResponse("count of results");
  std::vector<absl::Status> statuses;
  for (const v1::AppendResult& result : response.results()) {
    statuses.push_back(FromProtoStatus(result.status()));
  }
  return statuses;
}

v1::AttendItem MakeAttendItem(const v1::Session& session, const Query& query) {
  v1::AttendItem item;
  item.set_session(session.name());
  item.set_layer(query.layer);
  item.set_num_tokens(query.num_tokens);
  item.set_num_query_heads(session.model_shape().num_query_heads());
  item.set_head_dim(session.model_shape().head_dim());
  if (query.scale.has_value()) item.set_scale(*query.scale);
  item.set_start_position(query.start_position);
  item.set_min_position(query.min_position);
  return item;
}

absl::StatusOr<std::vector<absl::StatusOr<AttendOutput>>> CallAttend(
    const Connection& connection, absl::Time deadline, absl::string_view shard,
    absl::Span<const AttendTarget> targets, const AttendOptions& options) {
  v1::AttendRequest request;
  request.set_dtype(options.dtype);
  request.set_output_dtype(options.output_dtype);
  size_t query_bytes = 0;
  for (const AttendTarget& target : targets) query_bytes += target.query->queries.size();
  std::string* const queries = request.mutable_queries();
  queries->reserve(query_bytes);
  for (const AttendTarget& target : targets) {
    *request.add_items() = MakeAttendItem(*target.session, *target.query);
    const absl::Span<const std::byte> data = target.query->queries;
    queries->append(reinterpret_cast<const char*>(data.data()), data.size());
  }

  v1::AttendResponse response;
  const absl::Status status = connection.Call(deadline, shard, [&](grpc::ClientContext* context) {
    return FromGrpcStatus(connection.attention().Attend(context, request, &response));
  });
  if (!status.ok()) return status;
  return SplitAnswer(request, response);
}

}  // namespace kvattend::client
