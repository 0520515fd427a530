// An engine over a backend, with calls that wait for their answer.
#ifndef KVATTEND_TESTS_SERVER_ENGINE_ENGINE_HARNESS_H_
#define KVATTEND_TESTS_SERVER_ENGINE_ENGINE_HARNESS_H_

#include <algorithm>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "server/base/error.h"
#include "server/engine/engine.h"
#include "server/store/block_pool.h"
#include "tests/support/fake_clock.h"
#include "tests/support/recording_metrics.h"

namespace kvattend::testing {

// Waits for what a call of the engine gives to its `done`.
template <typename T, typename Call>
absl::StatusOr<T> Await(Call call) {
  auto promise = std::make_shared<std::promise<absl::StatusOr<T>>>();
  std::future<absl::StatusOr<T>> future = promise->get_future();
  call(Done<T>([promise](absl::StatusOr<T> result) { promise->set_value(std::move(result)); }));
  return future.get();
}

// "" for OK.
inline std::string ReasonOf(const absl::Status& status) { return GetErrorDetails(status).reason; }

class EngineHarness {
 public:
  explicit EngineHarness(Backend* backend, EngineOptions options = {})
      : engine_(options, backend, &metrics_, &clock_) {}

  Engine& engine() { return engine_; }
  RecordingMetrics& metrics() { return metrics_; }
  FakeClock& clock() { return clock_; }

  absl::StatusOr<SessionInfo> Create(CreateSessionParams params) {
    return Await<SessionInfo>(
        [&](Done<SessionInfo> done) { engine_.CreateSession(params, {}, std::move(done)); });
  }
  absl::StatusOr<SessionInfo> Get(const std::string& id, CallContext context = {}) {
    return Await<SessionInfo>(
        [&](Done<SessionInfo> done) { engine_.GetSession(id, context, std::move(done)); });
  }
  absl::StatusOr<SessionPage> List(const std::string& after, int page_size) {
    return Await<SessionPage>([&](Done<SessionPage> done) {
      engine_.ListSessions(after, page_size, {}, std::move(done));
    });
  }
  absl::StatusOr<int64_t> Delete(const std::string& id, CallContext context = {}) {
    return Await<int64_t>(
        [&](Done<int64_t> done) { engine_.DeleteSession(id, context, std::move(done)); });
  }
  absl::StatusOr<SessionChange> Compress(const std::string& id, std::optional<int64_t> keep_exact,
                                         std::optional<CodecSpec> codec = std::nullopt) {
    return Await<SessionChange>([&](Done<SessionChange> done) {
      engine_.CompressSession(id, keep_exact, codec, {}, std::move(done));
    });
  }
  absl::StatusOr<SessionInfo> Fork(const std::string& source, const std::string& new_id,
                                   CallContext context = {}) {
    return Await<SessionInfo>([&](Done<SessionInfo> done) {
      engine_.ForkSession(source, new_id, context, std::move(done));
    });
  }
  absl::StatusOr<SessionChange> Truncate(const std::string& id, int64_t length) {
    return Await<SessionChange>([&](Done<SessionChange> done) {
      engine_.TruncateSession(id, length, {}, std::move(done));
    });
  }
  absl::StatusOr<std::vector<AppendResult>> Append(AppendBatch batch, CallContext context = {}) {
    return Await<std::vector<AppendResult>>([&](Done<std::vector<AppendResult>> done) {
      engine_.Append(std::move(batch), context, std::move(done));
    });
  }
  absl::StatusOr<AttendAnswer> Attend(QueryBatch batch, CallContext context = {}) {
    return Await<AttendAnswer>([&](Done<AttendAnswer> done) {
      engine_.Attend(std::move(batch), context, std::move(done));
    });
  }
  absl::StatusOr<ScoresAnswer> Scores(QueryBatch batch, const ScoreOptions& options) {
    return Await<ScoresAnswer>([&](Done<ScoresAnswer> done) {
      engine_.ComputeScores(std::move(batch), options, {}, std::move(done));
    });
  }

 private:
  FakeClock clock_;
  RecordingMetrics metrics_;
  Engine engine_;
};

// Entries with their tensors, laid out in staging as the rpc layer does.
class AppendBatchBuilder {
 public:
  explicit AppendBatchBuilder(Engine& engine) : engine_(&engine) {}

  // keys, values: [layers, num_tokens, num_kv_heads, head_dim].
  AppendBatchBuilder& Add(AppendEntry entry, const std::vector<uint16_t>& keys,
                          const std::vector<uint16_t>& values) {
    entries_.push_back({std::move(entry), keys, values});
    return *this;
  }

  AppendBatch Build() {
    size_t num_values = 0;
    for (const Entry& entry : entries_) num_values += entry.keys.size() + entry.values.size();
    AppendBatch batch;
    batch.staging = *engine_->AllocateStaging(num_values * sizeof(uint16_t));
    auto* next = reinterpret_cast<uint16_t*>(batch.staging.get());
    for (Entry& entry : entries_) {
      entry.entry.keys = next;
      next = std::copy(entry.keys.begin(), entry.keys.end(), next);
      entry.entry.values = next;
      next = std::copy(entry.values.begin(), entry.values.end(), next);
      batch.entries.push_back(std::move(entry.entry));
    }
    return batch;
  }

 private:
  struct Entry {
    AppendEntry entry;
    std::vector<uint16_t> keys, values;
  };

  Engine* engine_;
  std::vector<Entry> entries_;
};

}  // namespace kvattend::testing

#endif  // KVATTEND_TESTS_SERVER_ENGINE_ENGINE_HARNESS_H_
