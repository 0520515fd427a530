#include "server/rpc/codec_service.h"

#include <memory>
#include <utility>

#include "kernels/base/status_macros.h"
#include "server/rpc/codec_job.h"

namespace kvattend {
namespace {

// Has the executor run the job, then answers. The job is shared by the work and what follows it.
template <typename Response>
void RunJob(Engine* engine, EngineOp op, std::unique_ptr<CodecJob<Response>> job, Call* call) {
  std::shared_ptr<CodecJob<Response>> shared = std::move(job);
  engine->RunStateless(
      op, shared->codec_name(), [shared](Backend& backend) { return shared->Run(backend); },
      call->context(),
      [shared, call](absl::Status status) {
        if (!status.ok()) return call->Fail(status);
        call->Reply(shared->TakeResponse());
      });
}

}  // namespace

grpc::ServerUnaryReactor* CodecService::Compress(grpc::CallbackServerContext* context,
                                                 const grpc::ByteBuffer* request,
                                                 grpc::ByteBuffer* response) {
  return Call::Start<v1::CompressRequest>(
      environment_, Method::kCompress, context, request, response,
      [this](const v1::CompressRequest& message, Call* call) -> absl::Status {
        Engine* const engine = environment_.engine;
        KVATTEND_ASSIGN_OR_RETURN(
            std::unique_ptr<CompressJob> job,
            ParseCompress(message, environment_.limits,
                          [engine](size_t bytes) { return engine->AllocateStaging(bytes); }));
        RunJob(engine, EngineOp::kEncode, std::move(job), call);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* CodecService::Decompress(grpc::CallbackServerContext* context,
                                                   const grpc::ByteBuffer* request,
                                                   grpc::ByteBuffer* response) {
  return Call::Start<v1::DecompressRequest>(
      environment_, Method::kDecompress, context, request, response,
      [this](const v1::DecompressRequest& message, Call* call) -> absl::Status {
        Engine* const engine = environment_.engine;
        KVATTEND_ASSIGN_OR_RETURN(
            std::unique_ptr<DecompressJob> job,
            ParseDecompress(message, environment_.limits,
                            [engine](size_t bytes) { return engine->AllocateStaging(bytes); }));
        RunJob(engine, EngineOp::kDecode, std::move(job), call);
        return absl::OkStatus();
      });
}

}  // namespace kvattend
