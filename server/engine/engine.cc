#include "server/engine/engine.h"

#include <utility>

#include "absl/base/thread_annotations.h"
#include "server/base/mutex.h"
#include "server/engine/append_operation.h"
#include "server/engine/attend_operation.h"
#include "server/engine/compress_operation.h"
#include "server/engine/engine_state.h"
#include "server/engine/executor.h"
#include "server/engine/scores_operation.h"
#include "server/engine/session_operations.h"
#include "server/engine/staging_budget.h"
#include "server/engine/truncate_operation.h"

namespace kvattend {

class Engine::Impl {
 public:
  Impl(const EngineOptions& options, Backend* backend, EngineMetrics* metrics, Clock* clock)
      : metrics_(metrics),
        backend_(*backend),
        staging_(options.max_staging_bytes, backend, metrics),
        state_(options, backend, metrics, clock),
        executor_(options.max_queue_depth, metrics, clock) {
    PublishMemory(state_.memory_use());
  }

  // `work` is called with the state and the call's shard, and gives an absl::StatusOr<T> or a T.
  template <typename T, typename Work>
  void Submit(EngineOp op, CallContext context, Done<T> done, Work work) {
    std::string shard = context.shard;
    executor_.Submit({op, std::move(context),
                      [this, shard = std::move(shard), done = std::move(done),
                       work = std::move(work)](absl::Status admission) mutable {
                        if (!admission.ok()) {
                          done(std::move(admission));
                          return;
                        }
                        absl::StatusOr<T> result = work(state_, shard);
                        PublishMemory(state_.memory_use());
                        done(std::move(result));
                      }});
  }

  void Drain() { executor_.Drain(); }

  MemoryUse memory_use() const {
    MutexLock lock(&mutex_);
    return memory_use_;
  }
  absl::StatusOr<StagingBuffer> AllocateStaging(size_t size_bytes) {
    return staging_.Allocate(size_bytes);
  }
  const Backend& backend() const { return backend_; }

 private:
  void PublishMemory(const MemoryUse& use) {
    {
      MutexLock lock(&mutex_);
      memory_use_ = use;
    }
    metrics_->Memory(use);
  }

  EngineMetrics* const metrics_;
  const Backend& backend_;
  mutable Mutex mutex_;
  MemoryUse memory_use_ ABSL_GUARDED_BY(mutex_);
  // Before the operations, whose tensors it counts.
  StagingBudget staging_;
  // Of the executor's thread, once that runs.
  EngineState state_;
  // Last: it stops before what its operations use goes.
  Executor executor_;
};

Engine::Engine(const EngineOptions& options, Backend* backend, EngineMetrics* metrics, Clock* clock)
    : impl_(std::make_unique<Impl>(options, backend, metrics, clock)) {}

Engine::~Engine() = default;

void Engine::Drain() { impl_->Drain(); }

void Engine::CreateSession(CreateSessionParams params, CallContext context,
                           Done<SessionInfo> done) {
  impl_->Submit(EngineOp::kCreate, std::move(context), std::move(done),
                [params = std::move(params)](EngineState& state, absl::string_view) mutable {
                  return kvattend::CreateSession(state, std::move(params));
                });
}

void Engine::GetSession(std::string id, CallContext context, Done<SessionInfo> done) {
  impl_->Submit(EngineOp::kGet, std::move(context), std::move(done),
                [id = std::move(id)](EngineState& state, absl::string_view shard) {
                  return kvattend::GetSession(state, id, shard);
                });
}

void Engine::ListSessions(std::string after, int page_size, CallContext context,
                          Done<SessionPage> done) {
  impl_->Submit(EngineOp::kList, std::move(context), std::move(done),
                [after = std::move(after), page_size](EngineState& state, absl::string_view) {
                  return kvattend::ListSessions(state, after, page_size);
                });
}

void Engine::DeleteSession(std::string id, CallContext context, Done<int64_t> done) {
  impl_->Submit(EngineOp::kDelete, std::move(context), std::move(done),
                [id = std::move(id)](EngineState& state, absl::string_view shard) {
                  return kvattend::DeleteSession(state, id, shard);
                });
}

void Engine::CompressSession(std::string id, std::optional<int64_t> keep_exact,
                             std::optional<CodecSpec> codec, CallContext context,
                             Done<SessionChange> done) {
  impl_->Submit(
      EngineOp::kCompressSession, std::move(context), std::move(done),
      [id = std::move(id), keep_exact, codec](EngineState& state, absl::string_view shard) {
        return kvattend::CompressSession(state, id, keep_exact, codec, shard);
      });
}

void Engine::ForkSession(std::string source, std::string new_id, CallContext context,
                         Done<SessionInfo> done) {
  impl_->Submit(EngineOp::kFork, std::move(context), std::move(done),
                [source = std::move(source), new_id = std::move(new_id)](
                    EngineState& state, absl::string_view shard) mutable {
                  return kvattend::ForkSession(state, source, std::move(new_id), shard);
                });
}

void Engine::TruncateSession(std::string id, int64_t length, CallContext context,
                             Done<SessionChange> done) {
  impl_->Submit(EngineOp::kTruncate, std::move(context), std::move(done),
                [id = std::move(id), length](EngineState& state, absl::string_view shard) {
                  return kvattend::TruncateSession(state, id, length, shard);
                });
}

void Engine::Append(AppendBatch batch, CallContext context, Done<std::vector<AppendResult>> done) {
  impl_->Submit(EngineOp::kAppend, std::move(context), std::move(done),
                [batch = std::move(batch)](EngineState& state, absl::string_view shard) {
                  return kvattend::Append(state, batch, shard);
                });
}

void Engine::Attend(QueryBatch batch, CallContext context, Done<AttendAnswer> done) {
  impl_->Submit(EngineOp::kAttend, std::move(context), std::move(done),
                [batch = std::move(batch)](EngineState& state, absl::string_view shard) {
                  return kvattend::Attend(state, batch, shard);
                });
}

void Engine::ComputeScores(QueryBatch batch, const ScoreOptions& options, CallContext context,
                           Done<ScoresAnswer> done) {
  impl_->Submit(EngineOp::kScores, std::move(context), std::move(done),
                [batch = std::move(batch), options](EngineState& state, absl::string_view shard) {
                  return kvattend::ComputeScores(state, batch, options, shard);
                });
}

void Engine::RunStateless(EngineOp op, std::string codec,
                          absl::AnyInvocable<absl::Status(Backend&)> work, CallContext context,
                          absl::AnyInvocable<void(absl::Status)> done) {
  // No result but its status.
  struct Nothing {};
  impl_->Submit(op, std::move(context),
                Done<Nothing>([done = std::move(done)](absl::StatusOr<Nothing> result) mutable {
                  done(result.status());
                }),
                [op, codec = std::move(codec), work = std::move(work)](
                    EngineState& state, absl::string_view) mutable -> absl::StatusOr<Nothing> {
                  const absl::Status status = state.UseBackend(
                      op, codec, [&work](Backend& backend) { return work(backend); });
                  if (!status.ok()) return status;
                  return Nothing{};
                });
}

absl::StatusOr<StagingBuffer> Engine::AllocateStaging(size_t size_bytes) {
  return impl_->AllocateStaging(size_bytes);
}

MemoryUse Engine::memory_use() const { return impl_->memory_use(); }

const Backend& Engine::backend() const { return impl_->backend(); }

}  // namespace kvattend
