#include "server/rpc/query_codec.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "server/rpc/grpc_status.h"
#include "server/rpc/names.h"
#include "server/rpc/validation.h"

namespace kvattend {
namespace {

using AttendItems = google::protobuf::RepeatedPtrField<v1::AttendItem>;

constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();
constexpr int64_t kMaxInt64 = std::numeric_limits<int64_t>::max();
// Room in an answer for what is not a tensor: an OK result, and the message itself.
constexpr int64_t kResultBytes = 32;
constexpr int64_t kMessageBytes = 1024;

absl::StatusOr<QueryEntry> ParseQueryItem(const v1::AttendItem& item, int index,
                                          const Limits& limits) {
  QueryEntry entry;
  KVATTEND_ASSIGN_OR_RETURN(entry.session, ParseSessionName(item.session(), {"session", index}));
  KVATTEND_RETURN_IF_ERROR(
      CheckRange({"num_tokens", index}, item.num_tokens(), 1, limits.max_query_tokens));
  KVATTEND_RETURN_IF_ERROR(
      CheckRange({"num_query_heads", index}, item.num_query_heads(), 1, kMaxInt32));
  KVATTEND_RETURN_IF_ERROR(CheckRange({"head_dim", index}, item.head_dim(), 1, kMaxInt32));
  KVATTEND_RETURN_IF_ERROR(CheckRange({"min_position", index}, item.min_position(), 0, kMaxInt64));
  if (item.has_scale() && !std::isfinite(item.scale())) {
    return InvalidField("VALUE_OUT_OF_RANGE", {"scale", index},
                        absl::StrCat("expected a finite number, found ", item.scale()));
  }
  entry.layer = item.layer();
  entry.num_tokens = item.num_tokens();
  entry.num_query_heads = item.num_query_heads();
  entry.head_dim = item.head_dim();
  if (item.has_scale()) entry.scale = item.scale();
  entry.min_position = item.min_position();
  entry.start_position = item.start_position();
  return entry;
}

std::optional<int64_t> QueryElements(const QueryEntry& entry) {
  return CheckedProduct({entry.num_tokens, entry.num_query_heads, entry.head_dim});
}

absl::StatusOr<QueryBatch> ParseQueries(const AttendItems& items, v1::DataType dtype,
                                        const TensorBytes& queries, const Limits& limits,
                                        StagingAllocator allocate) {
  KVATTEND_RETURN_IF_ERROR(CheckNumItems(items.size(), limits.max_items_per_call));
  KVATTEND_ASSIGN_OR_RETURN(const int element_bytes, ElementBytes(dtype, {"dtype"}));
  QueryBatch batch;
  batch.entries.reserve(items.size());
  ByteTotal total_bytes;
  for (int i = 0; i < items.size(); ++i) {
    KVATTEND_ASSIGN_OR_RETURN(QueryEntry entry, ParseQueryItem(items[i], i, limits));
    total_bytes.Add(QueryElements(entry), element_bytes);
    batch.entries.push_back(std::move(entry));
  }
  KVATTEND_RETURN_IF_ERROR(CheckByteCount({"queries"}, total_bytes.value(), queries.size()));

  size_t staging_bytes = 0;
  for (const QueryEntry& entry : batch.entries) {
    staging_bytes += AlignStaging(*QueryElements(entry) * sizeof(float));
  }
  KVATTEND_ASSIGN_OR_RETURN(batch.staging, allocate(staging_bytes));
  std::byte* next = batch.staging.get();
  TensorReader reader(queries, dtype);
  for (QueryEntry& entry : batch.entries) {
    const int64_t num_elements = *QueryElements(entry);
    auto* floats = reinterpret_cast<float*>(next);
    next += AlignStaging(num_elements * sizeof(float));
    entry.queries = floats;
    const std::optional<int64_t> bad = reader.ReadFloats(num_elements, floats);
    if (bad.has_value()) {
      entry.input_status.Update(
          NonFiniteInput("queries", *bad, entry.num_query_heads, entry.head_dim)
              .With("layer", entry.layer));
    }
  }
  return batch;
}

std::vector<QueryShape> ShapesOf(const QueryBatch& batch) {
  std::vector<QueryShape> shapes;
  shapes.reserve(batch.entries.size());
  for (const QueryEntry& entry : batch.entries) {
    shapes.push_back({entry.num_tokens, entry.num_query_heads, entry.head_dim});
  }
  return shapes;
}

int64_t EnvelopeBytes(const std::vector<QueryShape>& shapes) {
  return kMessageBytes + kResultBytes * static_cast<int64_t>(shapes.size());
}

}  // namespace

absl::StatusOr<AttendParams> ParseAttend(const v1::AttendRequest& request,
                                         const TensorBytes& queries, const Limits& limits,
                                         StagingAllocator allocate) {
  AttendParams params;
  if (request.output_dtype() != v1::DATA_TYPE_UNSPECIFIED) {
    params.output_dtype = request.output_dtype();
  }
  KVATTEND_ASSIGN_OR_RETURN(const int output_bytes,
                            ElementBytes(params.output_dtype, {"output_dtype"}));
  KVATTEND_ASSIGN_OR_RETURN(
      params.batch, ParseQueries(request.items(), request.dtype(), queries, limits, allocate));
  params.shapes = ShapesOf(params.batch);
  int64_t answer_bytes = EnvelopeBytes(params.shapes);
  for (const QueryShape& shape : params.shapes) {
    answer_bytes += shape.rows() * (int64_t{shape.head_dim} * output_bytes + sizeof(float));
  }
  KVATTEND_RETURN_IF_ERROR(CheckAnswerSize(answer_bytes, limits.max_message_bytes));
  return params;
}

v1::AttendResponse ToProto(const AttendAnswer& answer, const std::vector<QueryShape>& shapes,
                           v1::DataType output_dtype) {
  v1::AttendResponse response;
  response.set_output_dtype(output_dtype);
  response.mutable_results()->Reserve(static_cast<int>(shapes.size()));
  for (size_t i = 0; i < shapes.size(); ++i) {
    const AttendResult& result = answer.results[i];
    v1::AttendResult* proto = response.add_results();
    *proto->mutable_status() = ToRpcStatus(result.status);
    if (!result.status.ok()) continue;
    proto->set_position(result.position);
    const int64_t rows = shapes[i].rows();
    AppendAs(output_dtype, result.output, rows * shapes[i].head_dim, response.mutable_outputs());
    AppendAs(v1::DATA_TYPE_FLOAT32, result.lse, rows, response.mutable_lse());
  }
  return response;
}

absl::StatusOr<ScoresParams> ParseComputeScores(const v1::ComputeScoresRequest& request,
                                                const TensorBytes& queries, const Limits& limits,
                                                StagingAllocator allocate) {
  if (!v1::ScoreMode_IsValid(request.mode())) {
    return InvalidField("VALUE_OUT_OF_RANGE", {"mode"},
                        absl::StrCat("expected RAW or SOFTMAX, found ", request.mode()));
  }
  KVATTEND_RETURN_IF_ERROR(CheckRange({"top_k"}, request.top_k(), 0, limits.max_top_k));
  ScoresParams params;
  params.options.softmax = request.mode() == v1::SCORE_MODE_SOFTMAX;
  params.options.top_k = request.top_k();
  KVATTEND_ASSIGN_OR_RETURN(
      params.batch, ParseQueries(request.items(), request.dtype(), queries, limits, allocate));
  params.shapes = ShapesOf(params.batch);
  params.options.max_answer_bytes =
      std::max<int64_t>(limits.max_message_bytes - EnvelopeBytes(params.shapes), 0);
  return params;
}

v1::ComputeScoresResponse ToProto(const ScoresAnswer& answer,
                                  const std::vector<QueryShape>& shapes) {
  v1::ComputeScoresResponse response;
  response.mutable_results()->Reserve(static_cast<int>(shapes.size()));
  for (size_t i = 0; i < shapes.size(); ++i) {
    const ScoresResult& result = answer.results[i];
    v1::ScoresResult* proto = response.add_results();
    *proto->mutable_status() = ToRpcStatus(result.status);
    if (!result.status.ok()) continue;
    proto->set_position(result.position);
    proto->set_num_scores(result.num_scores);
    const int64_t num_elements = shapes[i].rows() * result.num_scores;
    AppendAs(v1::DATA_TYPE_FLOAT32, result.scores, num_elements, response.mutable_scores());
    if (result.positions != nullptr) {
      response.mutable_positions()->append(reinterpret_cast<const char*>(result.positions),
                                           num_elements * sizeof(int64_t));
    }
  }
  return response;
}

}  // namespace kvattend
