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

using FloatTag = hn::ScalableTag<float>;
using FloatVector = hn::Vec<FloatTag>;

HWY_INLINE FloatVector LoadHalves(const uint16_t* halves) {
  const hn::Rebind<hwy::float16_t, FloatTag> half;
  return hn::PromoteTo(FloatTag(),
                       hn::LoadU(half, reinterpret_cast<const hwy::float16_t*>(halves)));
}

// Elements (i, lane) of what rows are multiplied with: i is the index that is summed over, `lane` a
// multiple of the vector's length.
struct FloatElements {
  HWY_INLINE FloatVector Load(int i, int lane) const {
    return hn::LoadU(FloatTag(), data + i * stride + lane);
  }
  const float* data;
  int64_t stride;
};
struct HalfElements {
  HWY_INLINE FloatVector Load(int i, int lane) const {
    return LoadHalves(data + i * stride + lane);
  }
  const uint16_t* data;
  int64_t stride;
};
// Keys of pages: lanes are tokens, 16 a page.
struct PageElements {
  HWY_INLINE FloatVector Load(int i, int lane) const {
    return LoadHalves(pages[lane / 16] + i * 16 + lane % 16);
  }
  const uint16_t* const* pages;
};

// Vectors in arrays stay in registers only where the loops over them are unrolled.
#undef KVATTEND_UNROLL
#define KVATTEND_UNROLL HWY_PRAGMA(GCC unroll 16)

// kNumRows rows and kVectors vectors of lanes, in registers.
template <int kNumRows, int kVectors, typename Elements>
HWY_INLINE void MultiplyRegisters(const Elements& elements, int first_lane, int num_reduced,
                                  ConstRows weights, Rows sums) {
  const FloatTag d;
  const int n = static_cast<int>(hn::Lanes(d));
  FloatVector sum[kNumRows][kVectors];
  KVATTEND_UNROLL
  for (int r = 0; r < kNumRows; ++r) {
    KVATTEND_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = hn::LoadU(d, sums.From(r, first_lane + v * n).data);
    }
  }
  for (int i = 0; i < num_reduced; ++i) {
    FloatVector x[kVectors];
    KVATTEND_UNROLL
    for (int v = 0; v < kVectors; ++v) x[v] = elements.Load(i, first_lane + v * n);
    KVATTEND_UNROLL
    for (int r = 0; r < kNumRows; ++r) {
      const FloatVector w = hn::Set(d, weights.data[r * weights.stride + i]);
      KVATTEND_UNROLL
      for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::MulAdd(w, x[v], sum[r][v]);
    }
  }
  KVATTEND_UNROLL
  for (int r = 0; r < kNumRows; ++r) {
    KVATTEND_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      hn::StoreU(sum[r][v], d, sums.From(r, first_lane + v * n).data);
    }
  }
}

template <int kNumRows, typename Elements>
HWY_INLINE void MultiplyRows(const Elements& elements, int num_reduced, int num_lanes,
                             ConstRows weights, Rows sums) {
  // AVX-512 has 32 registers, others 16.
  constexpr int kVectors = HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86 ? 4 : 2;
  const int n = static_cast<int>(hn::Lanes(FloatTag()));
  int lane = 0;
  for (; lane + kVectors * n <= num_lanes; lane += kVectors * n) {
    MultiplyRegisters<kNumRows, kVectors>(elements, lane, num_reduced, weights, sums);
  }
  for (; lane < num_lanes; lane += n) {
    MultiplyRegisters<kNumRows, 1>(elements, lane, num_reduced, weights, sums);
  }
}

// sums[row][lane] += weights[row][i] * elements(i, lane) over i in ascending order; num_lanes is a
// multiple of 16. A row's result does not depend on the others.
template <typename Elements>
void MultiplyFloats(const Elements& elements, int num_reduced, int num_lanes, int num_rows,
                    ConstRows weights, Rows sums) {
  for (; num_rows >= 4; num_rows -= 4) {
    MultiplyRows<4>(elements, num_reduced, num_lanes, weights, sums);
    weights = weights.From(4, 0);
    sums = sums.From(4, 0);
  }
  if (num_rows == 3) MultiplyRows<3>(elements, num_reduced, num_lanes, weights, sums);
  if (num_rows == 2) MultiplyRows<2>(elements, num_reduced, num_lanes, weights, sums);
  if (num_rows == 1) MultiplyRows<1>(elements, num_reduced, num_lanes, weights, sums);
}

}  // namespace HWY_NAMESPACE
}  // namespace kvattend
HWY_AFTER_NAMESPACE();

#endif  // KVATTEND_KERNELS_CPU_MULTIPLY_INL_H_
