#include "server/engine/session_operations.h"

#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "server/base/error.h"

namespace kvattend {
namespace {

uint64_t RandomWord(const EngineOptions& options) {
  if (options.random) return options.random();
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

// Where `id` is empty, one that is free: 128 random bits in hexadecimal, so that nobody guesses it.
// ALREADY_EXISTS, or RESOURCE_EXHAUSTED if there is no room for another session.
absl::StatusOr<std::string> ClaimId(EngineState& state, std::string id) {
  if (!id.empty() && state.sessions.Find(id) != nullptr) {
    return Error(absl::StatusCode::kAlreadyExists, "SESSION_EXISTS",
                 absl::StrCat("there is a session sessions/", id, " already"))
        .Session(id);
  }
  if (state.sessions.size() >= state.options.max_sessions) {
    state.metrics->Rejected(RejectReason::kTooManySessions);
    return Error(absl::StatusCode::kResourceExhausted, "TOO_MANY_SESSIONS",
                 absl::StrCat("there are ", state.sessions.size(), " sessions, the most allowed"))
        .With("max_sessions", state.options.max_sessions);
  }
  while (id.empty() || state.sessions.Find(id) != nullptr) {
    id.clear();
    for (int word = 0; word < 2; ++word) {
      absl::StrAppend(&id, absl::Hex(RandomWord(state.options), absl::kZeroPad16));
    }
  }
  return id;
}

}  // namespace

absl::StatusOr<SessionInfo> CreateSession(EngineState& state, CreateSessionParams params) {
  KVATTEND_ASSIGN_OR_RETURN(const UnitSizes unit_sizes,
                            state.GetUnitSizes({params.shape.num_kv_heads, params.codec}));
  KVATTEND_ASSIGN_OR_RETURN(std::string id, ClaimId(state, std::move(params.id)));
  std::string shard = params.shard.empty() ? id : std::move(params.shard);
  auto session = std::make_unique<Session>(SessionConfig{.id = std::move(id),
                                                         .shape = params.shape,
                                                         .recent_window = params.recent_window,
                                                         .shard = std::move(shard),
                                                         .create_time = state.clock->Now()},
                                           params.codec, unit_sizes);
  SessionInfo info = session->Info();
  state.sessions.Insert(std::move(session));
  return info;
}

absl::StatusOr<SessionInfo> GetSession(EngineState& state, absl::string_view id,
                                       absl::string_view shard) {
  KVATTEND_ASSIGN_OR_RETURN(const Session* session, state.FindSession(id, shard));
  return session->Info();
}

SessionPage ListSessions(EngineState& state, absl::string_view after, int page_size) {
  const auto count = static_cast<size_t>(page_size);
  // One more, to know whether there is another page.
  std::vector<const Session*> sessions = state.sessions.ListAfter(after, count + 1);
  SessionPage page;
  if (sessions.size() > count) {
    sessions.pop_back();
    page.next_after = sessions.back()->config().id;
  }
  page.sessions.reserve(sessions.size());
  for (const Session* session : sessions) page.sessions.push_back(session->Info());
  return page;
}

absl::StatusOr<int64_t> DeleteSession(EngineState& state, absl::string_view id,
                                      absl::string_view shard) {
  KVATTEND_ASSIGN_OR_RETURN(const Session* session, state.FindSession(id, shard));
  const uint64_t used_before = state.pool.used_bytes();
  state.dense_bytes -= session->dense_bytes();
  state.sessions.Erase(id);
  state.metrics->SessionClosed(SessionCloseReason::kDeleted);
  return static_cast<int64_t>(used_before - state.pool.used_bytes());
}

absl::StatusOr<SessionInfo> ForkSession(EngineState& state, absl::string_view source,
                                        std::string new_id, absl::string_view shard) {
  KVATTEND_ASSIGN_OR_RETURN(const Session* session, state.FindSession(source, shard));
  KVATTEND_ASSIGN_OR_RETURN(std::string id, ClaimId(state, std::move(new_id)));
  SessionConfig config = session->config();
  config.id = std::move(id);
  config.create_time = state.clock->Now();
  std::unique_ptr<Session> fork = session->Fork(std::move(config));
  SessionInfo info = fork->Info();
  state.dense_bytes += info.dense_bytes;
  state.sessions.Insert(std::move(fork));
  return info;
}

}  // namespace kvattend
