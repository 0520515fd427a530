#include "server/store/session_table.h"

#include <utility>

namespace kvattend {

Session* SessionTable::Find(absl::string_view id) {
  const auto found = sessions_.find(id);
  return found == sessions_.end() ? nullptr : found->second.get();
}

void SessionTable::Insert(std::unique_ptr<Session> session) {
  std::string id = session->config().id;
  sessions_.emplace(std::move(id), std::move(session));
}

void SessionTable::Erase(absl::string_view id) { sessions_.erase(sessions_.find(id)); }

std::vector<const Session*> SessionTable::ListAfter(absl::string_view after, size_t count) const {
  std::vector<const Session*> sessions;
  for (auto it = sessions_.upper_bound(after); it != sessions_.end() && sessions.size() < count;
       ++it) {
    sessions.push_back(it->second.get());
  }
  return sessions;
}

}  // namespace kvattend
