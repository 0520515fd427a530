#include "tests/bench/dense_attention.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/bench/dense_attention.cc"
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/cpu/softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvattend {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

HWY_INLINE V LoadHalves(const uint16_t* halves) {
  const hn::Rebind<hwy::float16_t, D> half;
  return hn::PromoteTo(D(), hn::LoadU(half, reinterpret_cast<const hwy::float16_t*>(halves)));
}

// sums[row][lane] += weights[row][i] * x[i][lane] for 4 rows and kVectors vectors of lanes.
template <int kVectors>
HWY_INLINE void Multiply(const uint16_t* x, int count, int64_t x_stride, const float* weights,
                         int weight_stride, float* sums, int sum_stride) {
  const D d;
  const int n = static_cast<int>(hn::Lanes(d));
  V sum[DensePartial::kRows][kVectors];
  for (int r = 0; r < DensePartial::kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::LoadU(d, sums + r * sum_stride + v * n);
  }
  for (int i = 0; i < count; ++i, x += x_stride) {
    // 8 KiB ahead, a line for each line that is loaded: half as fast again as the hardware's
    // prefetching alone.
    for (int v = 0; v < 64; v += 32) hwy::Prefetch(x + 4096 + v);
    V lanes[kVectors];
    for (int v = 0; v < kVectors; ++v) lanes[v] = LoadHalves(x + v * n);
    for (int r = 0; r < DensePartial::kRows; ++r) {
      const V w = hn::Set(d, weights[r * weight_stride + i]);
      for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::MulAdd(w, lanes[v], sum[r][v]);
    }
  }
  for (int r = 0; r < DensePartial::kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) hn::StoreU(sum[r][v], d, sums + r * sum_stride + v * n);
  }
}

void DenseSplit(const uint16_t* keys, const uint16_t* values, int num_blocks, int head_dim,
                const float* queries, float factor, DensePartial* partial) {
  constexpr int kVectors = HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86 ? 4 : 2;
  const D d;
  const int step = kVectors * static_cast<int>(hn::Lanes(d));
  std::fill_n(partial->max, DensePartial::kRows, -std::numeric_limits<float>::infinity());
  std::fill_n(partial->sum, DensePartial::kRows, 0.0f);
  std::fill_n(partial->output, DensePartial::kRows * head_dim, 0.0f);
  for (int b = 0; b < num_blocks; ++b, keys += 64 * head_dim, values += 64 * head_dim) {
    alignas(64) float p[DensePartial::kRows * 64] = {};
    for (int t = 0; t < 64; t += step) {
      Multiply<kVectors>(keys + t, head_dim, 64, queries, head_dim, p + t, 64);
    }
    for (int r = 0; r < DensePartial::kRows; ++r) {
      for (int t = 0; t < 64; ++t) p[r * 64 + t] *= factor;
      float max, sum;
      SoftmaxRow(p + r * 64, 0, 64, 0, 64, &max, &sum);
      if (max > partial->max[r]) {
        const float correction = std::exp2(partial->max[r] - max);
        partial->max[r] = max;
        partial->sum[r] = partial->sum[r] * correction + sum;
        float* const output = partial->output + r * head_dim;
        for (int c = 0; c < head_dim; ++c) output[c] *= correction;
      } else {
        const float correction = std::exp2(max - partial->max[r]);
        partial->sum[r] += sum * correction;
        for (int t = 0; t < 64; ++t) p[r * 64 + t] *= correction;
      }
    }
    for (int c = 0; c < head_dim; c += step) {
      Multiply<kVectors>(values + c, 64, head_dim, p, 64, partial->output + c, head_dim);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvattend
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvattend {

HWY_EXPORT(DenseSplit);

void DenseAttend(const DenseCache& cache, const float* queries, float scale, ThreadPool& pool,
                 std::vector<DensePartial>* partials, float* output, float* lse) {
  constexpr float kLog2E = 1.44269504f;
  constexpr int kSplitBlocks = 16;
  const int num_blocks = static_cast<int>(cache.num_tokens / 64);
  const int num_splits = (num_blocks + kSplitBlocks - 1) / kSplitBlocks;
  partials->resize(cache.num_kv_heads * num_splits);
  const int64_t block_size = int64_t{64} * cache.head_dim;
  pool.ParallelFor(cache.num_kv_heads * num_splits, [&](int64_t i, int thread) {
    const int64_t head = i / num_splits;
    const int block = static_cast<int>(i % num_splits) * kSplitBlocks;
    const int64_t offset = (head * num_blocks + block) * block_size;
    HWY_DYNAMIC_DISPATCH(DenseSplit)
    (cache.keys + offset, cache.values + offset, std::min(kSplitBlocks, num_blocks - block),
     cache.head_dim, queries + head * DensePartial::kRows * cache.head_dim, scale * kLog2E,
     &(*partials)[i]);
  });
  pool.ParallelFor(cache.num_kv_heads * DensePartial::kRows, [&](int64_t row, int thread) {
    const DensePartial* const first = &(*partials)[row / DensePartial::kRows * num_splits];
    const int r = static_cast<int>(row % DensePartial::kRows);
    float max = first->max[r];
    for (int s = 1; s < num_splits; ++s) max = std::max(max, first[s].max[r]);
    float sum = 0.0f;
    float* const out = output + row * cache.head_dim;
    std::fill_n(out, cache.head_dim, 0.0f);
    for (int s = 0; s < num_splits; ++s) {
      const float weight = std::exp2(first[s].max[r] - max);
      sum += weight * first[s].sum[r];
      for (int c = 0; c < cache.head_dim; ++c) {
        out[c] += weight * first[s].output[r * cache.head_dim + c];
      }
    }
    for (int c = 0; c < cache.head_dim; ++c) out[c] /= sum;
    lse[row] = (max + std::log2(sum)) / kLog2E;
  });
}

}  // namespace kvattend
#endif  // HWY_ONCE
