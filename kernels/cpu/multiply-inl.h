// Products of a few rows of weights with chunks of float32. Compiled once for each instruction set.
#if defined(KVATTEND_KERNELS_CPU_MULTIPLY_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVATTEND_KERNELS_CPU_MULTIPLY_INL_H_
#undef KVATTEND_KERNELS_CPU_MULTIPLY_INL_H_
#else
#define KVATTEND_KERNELS_CPU_MULTIPLY_INL_H_
#endif

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace kvattend {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Rows of float32, `stride` floats apart.
struct ConstRows {
  ConstRows From(int row, int column) const { return {data + row * stride + column, stride}; }
  const float* data;
  int64_t stride;
};
struct Rows {
  Rows From(int row, int column) const { return {data + row * stride + column, stride}; }
  float* data;
  int64_t stride;
};

// kNumRows rows and kVectors vectors of lanes, in registers.
template <int kNumRows, int kVectors>
HWY_INLINE void MultiplyRegisters(const float* chunk, int num_reduced, int num_lanes,
                                  ConstRows weights, Rows sums) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const int n = static_cast<int>(hn::Lanes(d));
  V sum[kNumRows][kVectors];
  for (int r = 0; r < kNumRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = hn::LoadU(d, sums.data + r * sums.stride + v * n);
    }
  }
  for (int i = 0; i < num_reduced; ++i, chunk += num_lanes) {
    V x[kVectors];
    for (int v = 0; v < kVectors; ++v) x[v] = hn::LoadU(d, chunk + v * n);
    for (int r = 0; r < kNumRows; ++r) {
      const V w = hn::Set(d, weights.data[r * weights.stride + i]);
      for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::MulAdd(w, x[v], sum[r][v]);
    }
  }
  for (int r = 0; r < kNumRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      hn::StoreU(sum[r][v], d, sums.data + r * sums.stride + v * n);
    }
  }
}

template <int kNumRows>
HWY_INLINE void MultiplyRows(const float* chunk, int num_reduced, int num_lanes, ConstRows weights,
                             Rows sums) {
  // AVX-512 has 32 registers, others 16.
  constexpr int kVectors = HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86 ? 4 : 2;
  const hn::ScalableTag<float> d;
  const int n = static_cast<int>(hn::Lanes(d));
  int lane = 0;
  for (; lane + kVectors * n <= num_lanes; lane += kVectors * n) {
    MultiplyRegisters<kNumRows, kVectors>(chunk + lane, num_reduced, num_lanes, weights,
                                          sums.From(0, lane));
  }
  for (; lane < num_lanes; lane += n) {
    MultiplyRegisters<kNumRows, 1>(chunk + lane, num_reduced, num_lanes, weights,
                                   sums.From(0, lane));
  }
}

// sums[row][lane] += weights[row][i] * chunk[i][lane] over i in ascending order; num_lanes is a
// multiple of 16. A row's result does not depend on the others.
inline void MultiplyChunk(const float* chunk, int num_reduced, int num_lanes, int num_rows,
                          ConstRows weights, Rows sums) {
  int r = 0;
  for (; r + 4 <= num_rows; r += 4) {
    MultiplyRows<4>(chunk, num_reduced, num_lanes, weights.From(r, 0), sums.From(r, 0));
  }
  weights = weights.From(r, 0);
  sums = sums.From(r, 0);
  if (num_rows - r == 3) MultiplyRows<3>(chunk, num_reduced, num_lanes, weights, sums);
  if (num_rows - r == 2) MultiplyRows<2>(chunk, num_reduced, num_lanes, weights, sums);
  if (num_rows - r == 1) MultiplyRows<1>(chunk, num_reduced, num_lanes, weights, sums);
}

}  // namespace HWY_NAMESPACE
}  // namespace kvattend
HWY_AFTER_NAMESPACE();

#endif  // KVATTEND_KERNELS_CPU_MULTIPLY_INL_H_
