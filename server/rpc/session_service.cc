#include "server/rpc/session_service.h"

#include <optional>
#include <string>
#include <utility>

#include "kernels/base/status_macros.h"
#include "server/rpc/names.h"
#include "server/rpc/session_codec.h"

namespace kvattend {
namespace {

// The answers that hold nothing but a session.
template <typename Response>
Response WithSession(const SessionInfo& session) {
  Response response;
  *response.mutable_session() = ToProto(session);
  return response;
}

// And those that say how much memory became free, too.
template <typename Response>
Response WithFreedBytes(const SessionChange& change) {
  Response response = WithSession<Response>(change.session);
  response.set_freed_bytes(change.freed_bytes);
  return response;
}

// A codec needs the session's head_dim, so it is looked up first; no session ever changes it.
void CompressWithCodec(Engine* engine, CompressSessionParams params, const v1::Codec& codec,
                       Call* call) {
  engine->GetSession(params.id, call->context(),
                     [engine, params, codec, call](absl::StatusOr<SessionInfo> session) {
                       if (!session.ok()) return call->Fail(session.status());
                       absl::StatusOr<CodecSpec> spec = ParseCodec(codec, session->shape.head_dim);
                       if (!spec.ok()) return call->Fail(spec.status());
                       engine->CompressSession(
                           params.id, params.keep_exact, *spec, call->context(),
                           call->Then<SessionChange>(WithFreedBytes<v1::CompressSessionResponse>));
                     });
}

}  // namespace

grpc::ServerUnaryReactor* SessionService::CreateSession(grpc::CallbackServerContext* context,
                                                        const grpc::ByteBuffer* request,
                                                        grpc::ByteBuffer* response) {
  return Call::Start<v1::CreateSessionRequest>(
      environment_, Method::kCreateSession, context, request, response,
      [this](const v1::CreateSessionRequest& message, Call* call) -> absl::Status {
        KVATTEND_ASSIGN_OR_RETURN(CreateSessionParams params,
                                  ParseCreateSession(message, environment_.limits, call->shard()));
        environment_.engine->CreateSession(
            std::move(params), call->context(),
            call->Then<SessionInfo>(WithSession<v1::CreateSessionResponse>));
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* SessionService::GetSession(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* request,
                                                     grpc::ByteBuffer* response) {
  return Call::Start<v1::GetSessionRequest>(
      environment_, Method::kGetSession, context, request, response,
      [this](const v1::GetSessionRequest& message, Call* call) -> absl::Status {
        KVATTEND_ASSIGN_OR_RETURN(std::string id, ParseSessionName(message.name(), {"name"}));
        environment_.engine->GetSession(
            std::move(id), call->context(),
            call->Then<SessionInfo>(WithSession<v1::GetSessionResponse>));
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* SessionService::ListSessions(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request,
                                                       grpc::ByteBuffer* response) {
  return Call::Start<v1::ListSessionsRequest>(
      environment_, Method::kListSessions, context, request, response,
      [this](const v1::ListSessionsRequest& message, Call* call) -> absl::Status {
        KVATTEND_ASSIGN_OR_RETURN(ListSessionsParams params, ParseListSessions(message));
        environment_.engine->ListSessions(
            std::move(params.after), params.page_size, call->context(),
            call->Then<SessionPage>([](const SessionPage& page) {
              v1::ListSessionsResponse answer;
              for (const SessionInfo& session : page.sessions) {
                *answer.add_sessions() = ToProto(session);
              }
              answer.set_next_page_token(MakePageToken(page.next_after));
              return answer;
            }));
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* SessionService::DeleteSession(grpc::CallbackServerContext* context,
                                                        const grpc::ByteBuffer* request,
                                                        grpc::ByteBuffer* response) {
  return Call::Start<v1::DeleteSessionRequest>(
      environment_, Method::kDeleteSession, context, request, response,
      [this](const v1::DeleteSessionRequest& message, Call* call) -> absl::Status {
        KVATTEND_ASSIGN_OR_RETURN(std::string id, ParseSessionName(message.name(), {"name"}));
        environment_.engine->DeleteSession(std::move(id), call->context(),
                                           call->Then<int64_t>([](int64_t freed_bytes) {
                                             v1::DeleteSessionResponse answer;
                                             answer.set_freed_bytes(freed_bytes);
                                             return answer;
                                           }));
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* SessionService::CompressSession(grpc::CallbackServerContext* context,
                                                          const grpc::ByteBuffer* request,
                                                          grpc::ByteBuffer* response) {
  return Call::Start<v1::CompressSessionRequest>(
      environment_, Method::kCompressSession, context, request, response,
      [this](const v1::CompressSessionRequest& message, Call* call) -> absl::Status {
        KVATTEND_ASSIGN_OR_RETURN(CompressSessionParams params,
                                  ParseCompressSession(message, environment_.limits));
        if (params.has_codec) {
          CompressWithCodec(environment_.engine, std::move(params), message.codec(), call);
        } else {
          environment_.engine->CompressSession(
              std::move(params.id), params.keep_exact, std::nullopt, call->context(),
              call->Then<SessionChange>(WithFreedBytes<v1::CompressSessionResponse>));
        }
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* SessionService::ForkSession(grpc::CallbackServerContext* context,
                                                      const grpc::ByteBuffer* request,
                                                      grpc::ByteBuffer* response) {
  return Call::Start<v1::ForkSessionRequest>(
      environment_, Method::kForkSession, context, request, response,
      [this](const v1::ForkSessionRequest& message, Call* call) -> absl::Status {
        KVATTEND_ASSIGN_OR_RETURN(ForkSessionParams params, ParseForkSession(message));
        environment_.engine->ForkSession(
            std::move(params.source), std::move(params.new_id), call->context(),
            call->Then<SessionInfo>(WithSession<v1::ForkSessionResponse>));
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* SessionService::TruncateSession(grpc::CallbackServerContext* context,
                                                          const grpc::ByteBuffer* request,
                                                          grpc::ByteBuffer* response) {
  return Call::Start<v1::TruncateSessionRequest>(
      environment_, Method::kTruncateSession, context, request, response,
      [this](const v1::TruncateSessionRequest& message, Call* call) -> absl::Status {
        KVATTEND_ASSIGN_OR_RETURN(TruncateSessionParams params, ParseTruncateSession(message));
        environment_.engine->TruncateSession(
            std::move(params.id), params.length, call->context(),
            call->Then<SessionChange>(WithFreedBytes<v1::TruncateSessionResponse>));
        return absl::OkStatus();
      });
}

}  // namespace kvattend
