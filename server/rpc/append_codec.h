// kvattend.v1 Append messages to the engine's batches, and back.
//
// Parsing copies the tensors once, into staging memory, as float16. What is wrong with a call as a
// whole is the returned error (INVALID_ARGUMENT, naming the field); a value of an item that is not
// finite becomes that item's input_status.
//
// Thread-safe: pure functions.
#ifndef KVATTEND_SERVER_RPC_APPEND_CODEC_H_
#define KVATTEND_SERVER_RPC_APPEND_CODEC_H_

#include <vector>

#include "absl/status/statusor.h"
#include "kvattend/v1/attention_service.pb.h"
#include "server/engine/engine.h"
#include "server/rpc/limits.h"
#include "server/rpc/tensor_bytes.h"
#include "server/rpc/tensor_data.h"

namespace kvattend {

// The request's `keys` and `values`, which its message leaves out.
struct AppendTensors {
  TensorBytes keys;
  TensorBytes values;
};

absl::StatusOr<AppendBatch> ParseAppend(const v1::AppendRequest& request,
                                        const AppendTensors& tensors, const Limits& limits,
                                        StagingAllocator allocate);

v1::AppendResponse ToProto(const std::vector<AppendResult>& results);

}  // namespace kvattend

#endif  // KVATTEND_SERVER_RPC_APPEND_CODEC_H_
