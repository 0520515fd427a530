#include "kernels/cpu/thread_pool.h"

#include <atomic>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"

namespace kvattend {
namespace {

TEST(ThreadPoolTest, RunsEveryIterationOnce) {
  for (const int num_threads : {1, 2, 5}) {
    ThreadPool pool(num_threads);
    EXPECT_EQ(pool.num_threads(), num_threads);
    for (const int count : {0, 1, 2, 3, 100, 10000}) {
      std::vector<int> runs(count);
      pool.ParallelFor(count, [&](int64_t i, int thread) { ++runs[i]; });
      EXPECT_EQ(runs, std::vector<int>(count, 1)) << num_threads << " threads";
    }
  }
}

TEST(ThreadPoolTest, AThreadRunsOneIterationAtATime) {
  ThreadPool pool(3);
  std::vector<std::atomic<int>> busy(3);
  pool.ParallelFor(5000, [&](int64_t i, int thread) {
    ASSERT_EQ(busy[thread].fetch_add(1), 0);
    busy[thread].fetch_sub(1);
  });
}

TEST(ThreadPoolTest, WritesAreVisibleToTheCaller) {
  ThreadPool pool(4);
  std::vector<int64_t> squares(64);
  for (int round = 1; round < 500; ++round) {
    pool.ParallelFor(64, [&](int64_t i, int thread) { squares[i] = i * round; });
    ASSERT_EQ(std::accumulate(squares.begin(), squares.end(), int64_t{0}), 2016 * round);
  }
}

TEST(ThreadPoolTest, StopsWithoutWork) { ThreadPool pool(8); }

}  // namespace
}  // namespace kvattend
