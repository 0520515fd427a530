// Softmax over rows of scores in base 2. Compiled once for each instruction set.
#if defined(KVATTEND_KERNELS_CPU_SOFTMAX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVATTEND_KERNELS_CPU_SOFTMAX_INL_H_
#undef KVATTEND_KERNELS_CPU_SOFTMAX_INL_H_
#else
#define KVATTEND_KERNELS_CPU_SOFTMAX_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <limits>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace kvattend {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// 2^x for x <= 127, relative error below 2e-7; 0 below -126.5.
template <class V>
HWY_INLINE V Exp2(V x) {
  const hn::DFromV<V> d;
  const hn::RebindToSigned<decltype(d)> di;
  // At -127 the exponent field is 0, which makes the power of two a zero.
  x = hn::Max(x, hn::Set(d, -127.0f));
  const auto whole = hn::NearestInt(x);
  const V f = hn::Sub(x, hn::ConvertTo(d, whole));
  // Interpolates 2^f on [-0.5, 0.5] at Chebyshev's nodes.
  V p = hn::Set(d, 1.54614449e-4f);
  p = hn::MulAdd(p, f, hn::Set(d, 1.3400428e-3f));
  p = hn::MulAdd(p, f, hn::Set(d, 9.61805694e-3f));
  p = hn::MulAdd(p, f, hn::Set(d, 5.55032715e-2f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.240226507f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.693147182f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
  const auto power = hn::ShiftLeft<23>(hn::Add(whole, hn::Set(di, 127)));
  return hn::Mul(p, hn::BitCast(d, power));
}

// Turns scores[first .. last - 1] into 2^(score - max), 0 outside [begin, end); gives max and the
// sum, -infinity and 0 where nothing is seen. first and last are multiples of 64, and the order of
// the sum depends on the position in the row alone.
inline void SoftmaxRow(float* scores, int first, int last, int begin, int end, float* max,
                       float* sum) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  const hn::ScalableTag<float> d;
  const int n = static_cast<int>(hn::Lanes(d));
  begin = std::clamp(begin, first, last);
  end = std::clamp(end, begin, last);
  std::fill(scores + first, scores + begin, kLowest);
  std::fill(scores + end, scores + last, kLowest);
  auto max_lanes = hn::Set(d, kLowest);
  for (int i = first; i < last; i += 4 * n) {
    const auto a = hn::Max(hn::Load(d, scores + i), hn::Load(d, scores + i + n));
    const auto b = hn::Max(hn::Load(d, scores + i + 2 * n), hn::Load(d, scores + i + 3 * n));
    max_lanes = hn::Max(max_lanes, hn::Max(a, b));
  }
  *max = hn::GetLane(hn::MaxOfLanes(d, max_lanes));
  *sum = 0.0f;
  if (*max == kLowest) {
    std::fill(scores + first, scores + last, 0.0f);
    return;
  }
  const auto shift = hn::Set(d, *max);
  auto sum_lanes = hn::Zero(d);
  for (int i = first; i < last; i += n) {
    const auto p = Exp2(hn::Sub(hn::Load(d, scores + i), shift));
    hn::Store(p, d, scores + i);
    sum_lanes = hn::Add(sum_lanes, p);
  }
  *sum = hn::GetLane(hn::SumOfLanes(d, sum_lanes));
}

// Turns scores into 2^score over their sum.
inline void Softmax(float* scores, int64_t count) {
  if (count == 0) return;
  const float max = *std::max_element(scores, scores + count);
  const hn::ScalableTag<float> d;
  const int64_t n = hn::Lanes(d);
  const auto shift = hn::Set(d, max);
  // Float32 lanes would lose the small terms of a million tokens.
  double sum = 0.0;
  int64_t i = 0;
  while (i + n <= count) {
    auto lanes = hn::Zero(d);
    for (const int64_t last = std::min(count, i + 1024); i + n <= last; i += n) {
      const auto p = Exp2(hn::Sub(hn::LoadU(d, scores + i), shift));
      hn::StoreU(p, d, scores + i);
      lanes = hn::Add(lanes, p);
    }
    sum += hn::GetLane(hn::SumOfLanes(d, lanes));
  }
  const hn::CappedTag<float, 1> d1;
  for (; i < count; ++i) {
    const auto p = Exp2(hn::Sub(hn::LoadU(d1, scores + i), hn::Set(d1, max)));
    scores[i] = hn::GetLane(p);
    sum += scores[i];
  }
  const float inverse = static_cast<float>(1.0 / sum);
  for (i = 0; i < count; ++i) scores[i] *= inverse;
}

}  // namespace HWY_NAMESPACE
}  // namespace kvattend
HWY_AFTER_NAMESPACE();

#endif  // KVATTEND_KERNELS_CPU_SOFTMAX_INL_H_
