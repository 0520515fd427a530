// Who is told of calls: server/observability makes metrics and log lines of them.
#ifndef KVATTEND_SERVER_RPC_CALL_OBSERVER_H_
#define KVATTEND_SERVER_RPC_CALL_OBSERVER_H_

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/rpc/method.h"

namespace kvattend {

// A call that has been answered.
struct CallRecord {
  Method method = Method::kGetServerInfo;
  // The caller's x-request-id where that is printable and short, else the server's.
  std::string request_id;
  // The caller's, printable; empty if not sent.
  std::string traceparent;
  // E.g. "ipv4:127.0.0.1:40112".
  std::string peer;
  absl::Status status;
  // Of the status; empty for OK.
  std::string reason;
  // From the call's arrival at the handler to its answer.
  absl::Duration duration;
  // Items of the call, and how many of them failed; 0 where it has none.
  int num_items = 0;
  int num_failed_items = 0;
};

// Thread-safe; does not block.
class CallObserver {
 public:
  virtual ~CallObserver() = default;
  virtual void CallStarted(Method method) = 0;
  virtual void CallFinished(const CallRecord& record) = 0;
};

}  // namespace kvattend

#endif  // KVATTEND_SERVER_RPC_CALL_OBSERVER_H_
