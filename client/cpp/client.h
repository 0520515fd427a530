// The C++ client of kvattend: a connection to one server.
//
//   ASSIGN_OR_RETURN(auto client, Client::Connect("127.0.0.1:50051"));
//   ASSIGN_OR_RETURN(Session session, client->CreateSession({.model_shape = shape}));
//   RETURN_IF_ERROR(session.Append({.layers = {0}, .num_tokens = n, .keys = k, .values = v}));
//   ASSIGN_OR_RETURN(AttendOutput output, session.Attend({.queries = q}));
//
// Every call has a deadline, and is tried again on UNAVAILABLE alone (client/cpp/retry.h). Errors
// are those of client/cpp/errors.h; the proto files list reasons by method. Data (sessions, codecs,
// limits) is in the messages of proto/kvattend/v1.
//
// Calls block. Use the generated stubs where you need asynchronous calls.
//
// Thread-safe. Sessions share the connection and may outlive the client.
#ifndef KVATTEND_CLIENT_CPP_CLIENT_H_
#define KVATTEND_CLIENT_CPP_CLIENT_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/cpp/client_options.h"
#include "client/cpp/session.h"
#include "kvattend/v1/server_service.pb.h"
#include "kvattend/v1/session_service.pb.h"

namespace kvattend::client {

class Connection;

struct SessionOptions {
  // 1 to 128 characters of [A-Za-z0-9._~-]; chosen here, at random, when empty.
  std::string id;
  v1::ModelShape model_shape;
  // The server's default when empty.
  v1::Codec codec;
  // The server's default when unset.
  std::optional<int64_t> recent_window;
  // Placement key; the id when empty.
  std::string shard;
};

// Tokens for one session within a batch.
struct AppendItem {
  // Not null; no two items have the same one.
  Session* session = nullptr;
  AppendInput input;
};

// A query over one session within a batch.
struct AttendItem {
  // Not null; borrowed for the call.
  const Session* session = nullptr;
  Query query;
};

class Client {
 public:
  // Connects to `target` ("host:port", or any gRPC name) and reads the server's limits. UNAVAILABLE
  // where there is no server after the retries.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(const std::string& target,
                                                         ClientOptions options = {});

  // As they were at Connect.
  const v1::Limits& limits() const;

  absl::StatusOr<v1::GetServerInfoResponse> GetServerInfo(const CallOptions& options = {}) const;

  absl::StatusOr<Session> CreateSession(const SessionOptions& session,
                                        const CallOptions& options = {}) const;
  // A handle on an existing session: `name` is "sessions/{id}" or the id. With send_shard, `shard`
  // is its placement key, the id when empty.
  absl::StatusOr<Session> OpenSession(absl::string_view name, absl::string_view shard = "",
                                      const CallOptions& options = {}) const;
  // All sessions, by name, read page by page: those that come and go meanwhile may be missing.
  absl::StatusOr<std::vector<v1::Session>> ListSessions(const CallOptions& options = {}) const;

  // Appends to many sessions in as few calls as shards, types and limits allow; for each session as
  // Session::Append. One status for each item, in order; a call that fails as a whole is the status
  // of each of its items.
  std::vector<absl::Status> Append(absl::Span<const AppendItem> items,
                                   const CallOptions& options = {}) const;

  // Attends over many sessions in as few calls as shards and limits allow. One result for each
  // item, in order; a call that fails as a whole is the result of each of its items. The queries
  // share one type.
  std::vector<absl::StatusOr<AttendOutput>> Attend(absl::Span<const AttendItem> items,
                                                   const AttendOptions& attend_options = {},
                                                   const CallOptions& options = {}) const;

 private:
  friend class CodecClient;
  explicit Client(std::shared_ptr<Connection> connection);

  // Items of one call: of one shard and type, each of which fits whole. Writes their statuses to
  // `results`, by the same indices.
  void AppendBatch(absl::Time deadline, absl::Span<const AppendItem> items,
                   absl::Span<const size_t> batch, std::vector<absl::Status>* results) const;

  std::shared_ptr<Connection> connection_;
};

}  // namespace kvattend::client

#endif  // KVATTEND_CLIENT_CPP_CLIENT_H_
