#include "server/rpc/attention_service.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "kernels/base/status_macros.h"
#include "server/rpc/append_codec.h"
#include "server/rpc/query_codec.h"

namespace kvattend {
namespace {

// Tells the call's record of the items, for metrics and logs.
template <typename Result>
void CountItems(const std::vector<Result>& results, Call* call) {
  const auto num_failed = std::count_if(results.begin(), results.end(),
                                        [](const Result& result) { return !result.status.ok(); });
  call->SetItems(static_cast<int>(results.size()), static_cast<int>(num_failed));
}

}  // namespace

grpc::ServerUnaryReactor* AttentionService::Append(grpc::CallbackServerContext* context,
                                                   const grpc::ByteBuffer* request,
                                                   grpc::ByteBuffer* response) {
  return Call::StartWithTensors<v1::AppendRequest>(
      environment_, Method::kAppend, context, request, response,
      std::array<int, 2>{v1::AppendRequest::kKeysFieldNumber,
                         v1::AppendRequest::kValuesFieldNumber},
      [this](const v1::AppendRequest& message, const std::array<TensorBytes, 2>& tensors,
             Call* call) -> absl::Status {
        Engine* const engine = environment_.engine;
        KVATTEND_ASSIGN_OR_RETURN(
            AppendBatch batch,
            ParseAppend(message, {tensors[0], tensors[1]}, environment_.limits,
                        [engine](size_t bytes) { return engine->AllocateStaging(bytes); }));
        engine->Append(
            std::move(batch), call->context(),
            call->Then<std::vector<AppendResult>>([call](const std::vector<AppendResult>& results) {
              CountItems(results, call);
              return ToProto(results);
            }));
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* AttentionService::Attend(grpc::CallbackServerContext* context,
                                                   const grpc::ByteBuffer* request,
                                                   grpc::ByteBuffer* response) {
  return Call::StartWithTensors<v1::AttendRequest>(
      environment_, Method::kAttend, context, request, response,
      std::array<int, 1>{v1::AttendRequest::kQueriesFieldNumber},
      [this](const v1::AttendRequest& message, const std::array<TensorBytes, 1>& tensors,
             Call* call) -> absl::Status {
        Engine* const engine = environment_.engine;
        KVATTEND_ASSIGN_OR_RETURN(
            AttendParams params,
            ParseAttend(message, tensors[0], environment_.limits,
                        [engine](size_t bytes) { return engine->AllocateStaging(bytes); }));
        engine->Attend(std::move(params.batch), call->context(),
                       call->Then<AttendAnswer>(
                           [call, shapes = std::move(params.shapes),
                            output_dtype = params.output_dtype](const AttendAnswer& answer) {
                             CountItems(answer.results, call);
                             return ToProto(answer, shapes, output_dtype);
                           }));
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* AttentionService::ComputeScores(grpc::CallbackServerContext* context,
                                                          const grpc::ByteBuffer* request,
                                                          grpc::ByteBuffer* response) {
  return Call::StartWithTensors<v1::ComputeScoresRequest>(
      environment_, Method::kComputeScores, context, request, response,
      std::array<int, 1>{v1::ComputeScoresRequest::kQueriesFieldNumber},
      [this](const v1::ComputeScoresRequest& message, const std::array<TensorBytes, 1>& tensors,
             Call* call) -> absl::Status {
        Engine* const engine = environment_.engine;
        KVATTEND_ASSIGN_OR_RETURN(
            ScoresParams params,
            ParseComputeScores(message, tensors[0], environment_.limits,
                               [engine](size_t bytes) { return engine->AllocateStaging(bytes); }));
        engine->ComputeScores(std::move(params.batch), params.options, call->context(),
                              call->Then<ScoresAnswer>([call, shapes = std::move(params.shapes)](
                                                           const ScoresAnswer& answer) {
                                CountItems(answer.results, call);
                                return ToProto(answer, shapes);
                              }));
        return absl::OkStatus();
      });
}

}  // namespace kvattend
