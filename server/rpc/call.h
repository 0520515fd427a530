// One unary call, from its bytes to its answer.
//
// Service methods take raw bytes (WithRawCallbackMethod), so that a request that cannot be parsed
// gets an error like every other, and an answer that is too large is told before gRPC drops it.
//
// Lifetime: a Call deletes itself when gRPC is done with it, which is after it has been answered
// (Reply or Fail, exactly once, from any thread), even if the caller has long gone. So the engine's
// callbacks may hold a plain pointer to it.
#ifndef KVATTEND_SERVER_RPC_CALL_H_
#define KVATTEND_SERVER_RPC_CALL_H_

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "google/protobuf/message.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "grpcpp/support/slice.h"
#include "server/base/clock.h"
#include "server/engine/engine.h"
#include "server/rpc/call_observer.h"
#include "server/rpc/limits.h"
#include "server/rpc/tensor_request.h"

namespace kvattend {

// What all services work with; outlives them.
struct RpcEnvironment {
  Engine* engine = nullptr;
  Limits limits;
  CallObserver* observer = nullptr;
  Clock* clock = nullptr;
};

class Call final : public grpc::ServerUnaryReactor {
 public:
  // Parses `request` and calls handle(request, call), which either returns an error or OK after it
  // has seen to it that the call will be answered.
  template <typename Request, typename Handle>
  static grpc::ServerUnaryReactor* Start(const RpcEnvironment& environment, Method method,
                                         grpc::CallbackServerContext* context,
                                         const grpc::ByteBuffer* request,
                                         grpc::ByteBuffer* response, Handle&& handle) {
    auto* call = new Call(environment, method, context, response);
    Request message;
    absl::Status status = call->Accept(*request, &message);
    if (status.ok()) status = handle(message, call);
    if (!status.ok()) call->Fail(status);
    return call;
  }

  // As Start, for requests whose `bytes` fields of these numbers hold tensors: these stay in gRPC's
  // buffers, and handle(request, tensors, call) gets them in this order, for as long as it runs.
  template <typename Request, size_t kNumTensors, typename Handle>
  static grpc::ServerUnaryReactor* StartWithTensors(
      const RpcEnvironment& environment, Method method, grpc::CallbackServerContext* context,
      const grpc::ByteBuffer* request, grpc::ByteBuffer* response,
      const std::array<int, kNumTensors>& field_numbers, Handle&& handle) {
    auto* call = new Call(environment, method, context, response);
    Request message;
    std::vector<grpc::Slice> slices;
    std::array<TensorBytes, kNumTensors> tensors;
    std::array<TensorField, kNumTensors> fields;
    for (size_t i = 0; i < kNumTensors; ++i) fields[i] = {field_numbers[i], &tensors[i]};
    absl::Status status = call->Accept(*request, fields, &slices, &message);
    if (status.ok()) status = handle(message, tensors, call);
    if (!status.ok()) call->Fail(status);
    return call;
  }

  // For the engine. Its is_cancelled may be asked as long as anyone likes.
  CallContext context() const;
  // The placement key; empty: none.
  const std::string& shard() const { return shard_; }
  // For the record.
  void SetItems(int num_items, int num_failed_items);

  void Reply(const google::protobuf::Message& response);
  void Fail(const absl::Status& status);

  // A callback of the engine that answers with make(result), or with the error.
  template <typename T, typename Make>
  Done<T> Then(Make make) {
    return [this, make = std::move(make)](absl::StatusOr<T> result) mutable {
      if (!result.ok()) return Fail(result.status());
      Reply(make(*std::move(result)));
    };
  }

 private:
  Call(const RpcEnvironment& environment, Method method, grpc::CallbackServerContext* context,
       grpc::ByteBuffer* response);

  // What is checked before a request is read: its metadata and its size.
  absl::Status CheckEnvelope(const grpc::ByteBuffer& request);
  // Checks the metadata and parses the request.
  absl::Status Accept(const grpc::ByteBuffer& request, google::protobuf::Message* message);
  // The same without the tensors, which then lie in `slices`.
  absl::Status Accept(const grpc::ByteBuffer& request, absl::Span<const TensorField> tensors,
                      std::vector<grpc::Slice>* slices, google::protobuf::Message* message);
  void FinishWith(const absl::Status& status);

  void OnCancel() override { cancelled_->store(true, std::memory_order_relaxed); }
  void OnDone() override { delete this; }

  const RpcEnvironment& environment_;
  grpc::CallbackServerContext* const grpc_context_;
  grpc::ByteBuffer* const response_;
  // Shared with the engine, which may ask after the call has ended.
  const std::shared_ptr<std::atomic<bool>> cancelled_ = std::make_shared<std::atomic<bool>>(false);
  const absl::Time start_;
  std::string shard_;
  CallRecord record_;
};

}  // namespace kvattend

#endif  // KVATTEND_SERVER_RPC_CALL_H_
