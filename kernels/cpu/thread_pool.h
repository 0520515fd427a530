// A fixed set of threads that share the iterations of a loop.
#ifndef KVATTEND_KERNELS_CPU_THREAD_POOL_H_
#define KVATTEND_KERNELS_CPU_THREAD_POOL_H_

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"

namespace kvattend {

// One caller at a time. Threads sleep between loops.
class ThreadPool {
 public:
  // The caller of ParallelFor is one of the `num_threads` >= 1, so num_threads - 1 are started.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(threads_.size()) + 1; }

  // Calls body(index, thread) for each index in 0 .. count - 1, in any order, on threads numbered
  // 0 .. num_threads() - 1, each of which runs one iteration at a time. Returns when all are done;
  // what they wrote is visible then.
  void ParallelFor(int64_t count, absl::FunctionRef<void(int64_t index, int thread)> body);

 private:
  using Body = absl::FunctionRef<void(int64_t, int)>;

  void WorkerLoop(int thread);
  void RunIterations(const Body& body, int thread);

  // The loop being run. Written by the caller before it raises generation_, read by workers after
  // they have seen it raised; left alone until all workers have counted themselves out.
  const Body* body_ = nullptr;
  int64_t count_ = 0;
  bool stop_ = false;
  std::atomic<int64_t> next_index_{0};
  std::atomic<int> workers_running_{0};
  std::atomic<uint32_t> generation_{0};

  std::vector<std::thread> threads_;
};

}  // namespace kvattend

#endif  // KVATTEND_KERNELS_CPU_THREAD_POOL_H_
