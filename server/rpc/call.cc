#include "server/rpc/call.h"

#include "grpcpp/impl/codegen/proto_utils.h"
#include "kernels/base/status_macros.h"
#include "server/base/error.h"
#include "server/rpc/grpc_status.h"
#include "server/rpc/request_context.h"
#include "server/rpc/validation.h"

namespace kvattend {
namespace {

absl::Status MalformedRequest() {
  return Error(absl::StatusCode::kInvalidArgument, "MALFORMED_REQUEST",
               "the request's bytes are no message of the method's request type, or a string in it "
               "is not UTF-8");
}

}  // namespace

Call::Call(const RpcEnvironment& environment, Method method, grpc::CallbackServerContext* context,
           grpc::ByteBuffer* response)
    : environment_(environment),
      grpc_context_(context),
      response_(response),
      start_(environment.clock->Now()) {
  record_.method = method;
  record_.request_id = RequestId(context->client_metadata());
  record_.traceparent = Traceparent(context->client_metadata());
  record_.peer = context->peer();
  context->AddInitialMetadata(kRequestIdKey, record_.request_id);
  environment_.observer->CallStarted(method);
}

absl::Status Call::CheckEnvelope(const grpc::ByteBuffer& request) {
  KVATTEND_ASSIGN_OR_RETURN(shard_, Shard(grpc_context_->client_metadata()));
  return CheckRequestSize(static_cast<int64_t>(request.Length()),
                          environment_.limits.max_message_bytes);
}

absl::Status Call::Accept(const grpc::ByteBuffer& request, google::protobuf::Message* message) {
  KVATTEND_RETURN_IF_ERROR(CheckEnvelope(request));
  // Parsing empties the buffer that it is given; a copy shares the bytes.
  grpc::ByteBuffer bytes(request);
  if (grpc::SerializationTraits<google::protobuf::Message>::Deserialize(&bytes, message).ok()) {
    return absl::OkStatus();
  }
  return MalformedRequest();
}

absl::Status Call::Accept(const grpc::ByteBuffer& request, absl::Span<const TensorField> tensors,
                          std::vector<grpc::Slice>* slices, google::protobuf::Message* message) {
  KVATTEND_RETURN_IF_ERROR(CheckEnvelope(request));
  if (request.Dump(slices).ok() && ParseTensorRequest(*slices, tensors, message)) {
    return absl::OkStatus();
  }
  return MalformedRequest();
}

CallContext Call::context() const {
  CallContext context;
  context.deadline = DeadlineTime(grpc_context_->deadline());
  context.is_cancelled = [cancelled = cancelled_] {
    return cancelled->load(std::memory_order_relaxed);
  };
  context.shard = shard_;
  return context;
}

void Call::SetItems(int num_items, int num_failed_items) {
  record_.num_items = num_items;
  record_.num_failed_items = num_failed_items;
}

void Call::Reply(const google::protobuf::Message& response) {
  const auto size_bytes = static_cast<int64_t>(response.ByteSizeLong());
  absl::Status status = CheckAnswerSize(size_bytes, environment_.limits.max_message_bytes);
  if (status.ok()) {
    bool own_buffer = false;
    if (!grpc::SerializationTraits<google::protobuf::Message>::Serialize(response, response_,
                                                                         &own_buffer)
             .ok()) {
      status = Error(absl::StatusCode::kInternal, "INTERNAL", "the answer cannot be serialized");
    }
  }
  FinishWith(status);
}

void Call::Fail(const absl::Status& status) { FinishWith(status); }

void Call::FinishWith(const absl::Status& status) {
  record_.status = status;
  if (!status.ok()) record_.reason = ErrorReason(status);
  record_.duration = environment_.clock->Now() - start_;
  environment_.observer->CallFinished(record_);
  Finish(ToGrpcStatus(status));
}

}  // namespace kvattend
