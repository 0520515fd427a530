// Engine metrics that a test looks at.
#ifndef KVATTEND_TESTS_SUPPORT_RECORDING_METRICS_H_
#define KVATTEND_TESTS_SUPPORT_RECORDING_METRICS_H_

#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "server/base/mutex.h"
#include "server/engine/engine_metrics.h"

namespace kvattend::testing {

struct RecordedMetrics {
  int queue_depth = 0;
  int max_queue_depth = 0;
  std::vector<EngineOp> started;
  std::map<EngineOp, absl::Duration> queue_wait;
  // The codec label of each use of the backend.
  std::vector<std::string> kernel_codecs;
  std::vector<int> batch_sizes;
  std::map<RejectReason, int> rejected;
  int replays = 0;
  int64_t layer_tokens = 0;
  // By codec: bytes in, bytes out.
  std::map<std::string, std::pair<int64_t, int64_t>> compressed;
  int closed = 0;
  MemoryUse memory;
};

// Thread-safe.
class RecordingMetrics final : public EngineMetrics {
 public:
  RecordedMetrics Get() const {
    MutexLock lock(&mutex_);
    return recorded_;
  }

  void QueueDepth(int depth) override {
    MutexLock lock(&mutex_);
    recorded_.queue_depth = depth;
    if (depth > recorded_.max_queue_depth) recorded_.max_queue_depth = depth;
  }
  void QueueWait(EngineOp op, absl::Duration wait) override {
    MutexLock lock(&mutex_);
    recorded_.started.push_back(op);
    recorded_.queue_wait[op] += wait;
  }
  void KernelTime(EngineOp, absl::string_view codec, absl::Duration) override {
    MutexLock lock(&mutex_);
    recorded_.kernel_codecs.emplace_back(codec);
  }
  void BatchSize(EngineOp, int items) override {
    MutexLock lock(&mutex_);
    recorded_.batch_sizes.push_back(items);
  }
  void Rejected(RejectReason reason) override {
    MutexLock lock(&mutex_);
    ++recorded_.rejected[reason];
  }
  void AppendReplayed() override {
    MutexLock lock(&mutex_);
    ++recorded_.replays;
  }
  void TokensAppended(int64_t layer_tokens) override {
    MutexLock lock(&mutex_);
    recorded_.layer_tokens += layer_tokens;
  }
  void Compressed(absl::string_view codec, int64_t input_bytes, int64_t output_bytes) override {
    MutexLock lock(&mutex_);
    auto& [input, output] = recorded_.compressed[std::string(codec)];
    input += input_bytes;
    output += output_bytes;
  }
  void SessionClosed(SessionCloseReason) override {
    MutexLock lock(&mutex_);
    ++recorded_.closed;
  }
  void Memory(const MemoryUse& use) override {
    MutexLock lock(&mutex_);
    recorded_.memory = use;
  }

 private:
  mutable Mutex mutex_;
  RecordedMetrics recorded_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvattend::testing

#endif  // KVATTEND_TESTS_SUPPORT_RECORDING_METRICS_H_
