#include "kernels/cpu/thread_pool.h"

#include "kernels/base/check.h"

namespace kvattend {

ThreadPool::ThreadPool(int num_threads) {
  KVATTEND_CHECK(num_threads >= 1);
  threads_.reserve(num_threads - 1);
  for (int thread = 1; thread < num_threads; ++thread) {
    threads_.emplace_back([this, thread] { WorkerLoop(thread); });
  }
}

ThreadPool::~ThreadPool() {
  stop_ = true;
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::ParallelFor(int64_t count,
                             absl::FunctionRef<void(int64_t index, int thread)> body) {
  if (count <= 1 || threads_.empty()) {
    for (int64_t i = 0; i < count; ++i) body(i, 0);
    return;
  }
  body_ = &body;
  count_ = count;
  next_index_.store(0, std::memory_order_relaxed);
  workers_running_.store(static_cast<int>(threads_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  RunIterations(body, 0);
  while (const int running = workers_running_.load(std::memory_order_acquire)) {
    workers_running_.wait(running, std::memory_order_acquire);
  }
}

void ThreadPool::WorkerLoop(int thread) {
  uint32_t seen = 0;
  while (true) {
    generation_.wait(seen, std::memory_order_acquire);
    ++seen;  // every worker takes part in every generation, so none is missed
    if (stop_) return;
    RunIterations(*body_, thread);
    if (workers_running_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      workers_running_.notify_one();
    }
  }
}

void ThreadPool::RunIterations(const Body& body, int thread) {
  for (int64_t i; (i = next_index_.fetch_add(1, std::memory_order_relaxed)) < count_;) {
    body(i, thread);
  }
}

}  // namespace kvattend
