// All sessions, by id in ascending byte order.
//
// Not thread-safe: the executor's thread owns it. Pointers to sessions hold until the session is
// erased.
#ifndef KVATTEND_SERVER_STORE_SESSION_TABLE_H_
#define KVATTEND_SERVER_STORE_SESSION_TABLE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/strings/string_view.h"
#include "server/store/session.h"

namespace kvattend {

class SessionTable {
 public:
  int64_t size() const { return static_cast<int64_t>(sessions_.size()); }

  // Null where there is none.
  Session* Find(absl::string_view id);
  // The id must be new.
  void Insert(std::unique_ptr<Session> session);
  // The id must be there.
  void Erase(absl::string_view id);
  // The first `count` sessions with ids above `after`.
  std::vector<const Session*> ListAfter(absl::string_view after, size_t count) const;

 private:
  absl::btree_map<std::string, std::unique_ptr<Session>> sessions_;
};

}  // namespace kvattend

#endif  // KVATTEND_SERVER_STORE_SESSION_TABLE_H_
