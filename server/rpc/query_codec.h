// kvattend.v1 Attend and ComputeScores messages to the engine's batches, and back.
//
// Parsing copies the queries once, into staging memory, as float32. What is wrong with a call as a
// whole is the returned error (INVALID_ARGUMENT, naming the field; RESOURCE_EXHAUSTED where the
// answer would be too large); a query of an item that is not finite becomes its input_status.
//
// Thread-safe: pure functions.
#ifndef KVATTEND_SERVER_RPC_QUERY_CODEC_H_
#define KVATTEND_SERVER_RPC_QUERY_CODEC_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "kvattend/v1/attention_service.pb.h"
#include "server/engine/engine.h"
#include "server/rpc/limits.h"
#include "server/rpc/tensor_bytes.h"
#include "server/rpc/tensor_data.h"

namespace kvattend {

// Of an item's queries, to read its results by.
struct QueryShape {
  int num_tokens = 0;
  int num_query_heads = 0;
  int head_dim = 0;

  int64_t rows() const { return int64_t{num_tokens} * num_query_heads; }
};

struct AttendParams {
  QueryBatch batch;
  std::vector<QueryShape> shapes;
  v1::DataType output_dtype = v1::DATA_TYPE_FLOAT32;
};
// `queries` are the request's, which its message leaves out.
absl::StatusOr<AttendParams> ParseAttend(const v1::AttendRequest& request,
                                         const TensorBytes& queries, const Limits& limits,
                                         StagingAllocator allocate);
v1::AttendResponse ToProto(const AttendAnswer& answer, const std::vector<QueryShape>& shapes,
                           v1::DataType output_dtype);

struct ScoresParams {
  QueryBatch batch;
  std::vector<QueryShape> shapes;
  ScoreOptions options;
};
absl::StatusOr<ScoresParams> ParseComputeScores(const v1::ComputeScoresRequest& request,
                                                const TensorBytes& queries, const Limits& limits,
                                                StagingAllocator allocate);
v1::ComputeScoresResponse ToProto(const ScoresAnswer& answer,
                                  const std::vector<QueryShape>& shapes);

}  // namespace kvattend

#endif  // KVATTEND_SERVER_RPC_QUERY_CODEC_H_
