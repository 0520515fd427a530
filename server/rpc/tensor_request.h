// Reads requests whose large fields are tensors without copying those: a protobuf parser would copy
// them into strings, which costs more than converting them.
#ifndef KVATTEND_SERVER_RPC_TENSOR_REQUEST_H_
#define KVATTEND_SERVER_RPC_TENSOR_REQUEST_H_

#include <vector>

#include "absl/types/span.h"
#include "google/protobuf/message.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/slice.h"
#include "server/rpc/tensor_bytes.h"

namespace kvattend {

// A `bytes` field of the request's message, and where its pieces go.
struct TensorField {
  int number = 0;
  TensorBytes* bytes = nullptr;
};

// Parses the wire form in `slices` into `message`, but leaves the tensor fields out of it and
// points to them instead; the slices must outlive these pieces. False for what is no such message.
bool ParseTensorRequest(const std::vector<grpc::Slice>& slices,
                        absl::Span<const TensorField> tensors, google::protobuf::Message* message);

}  // namespace kvattend

#endif  // KVATTEND_SERVER_RPC_TENSOR_REQUEST_H_
