// What a warp has so far of the outputs of 4 pairs.
#ifndef KVATTEND_KERNELS_CUDA_PARTIAL_RESULT_CUH_
#define KVATTEND_KERNELS_CUDA_PARTIAL_RESULT_CUH_

#include <cstdint>

#include "kernels/cuda/attend.h"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/weight_operands.cuh"

namespace kvattend::cuda {

// Lane 4 * g + j has channels 16 * m + 8 * r + g of pair j. Relative to a running maximum of the
// scores, which are in base 2.
template <int kHeadDim>
class PartialResult {
 public:
  static constexpr int kRows = kHeadDim / 16;

  __device__ __forceinline__ void Reset() {
    maximum_ = kNoScore;
    sum_ = 0.0f;
#pragma unroll
    for (int m = 0; m < kRows; ++m) output_[m][0] = output_[m][1] = 0.0f;
  }

  // Turns the scores of a unit into probabilities relative to the unit's maximum and brings what is
  // there to a common maximum. Returns the factor for the unit's values.
  __device__ __forceinline__ float Weigh(float (&scores)[4][2]) {
    float largest = kNoScore;
#pragma unroll
    for (int i = 0; i < 8; ++i) largest = fmaxf(largest, scores[i / 2][i % 2]);
    largest = MaxOverRows(largest);
    float total = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      float& score = scores[i / 2][i % 2];
      score = Exp2(score - largest);
      total += score;
    }
    // Seldom once some units have been seen.
    if (__any_sync(~0u, largest > maximum_)) {
      const float maximum = fmaxf(maximum_, largest);
      const float shrink = Exp2(maximum_ - maximum);
      maximum_ = maximum;
      sum_ *= shrink;
#pragma unroll
      for (int m = 0; m < kRows; ++m) {
        output_[m][0] *= shrink;
        output_[m][1] *= shrink;
      }
    }
    const float factor = Exp2(largest - maximum_);
    sum_ = fmaf(total, factor, sum_);
    return factor;
  }

  __device__ __forceinline__ void Add(int m, int r, float value, float factor) {
    output_[m][r] = fmaf(value, factor, output_[m][r]);
  }

  // Writes pair j's output, [kHeadDim], and its maximum and sum of exponentials.
  __device__ __forceinline__ void Store(int g, float* output, float2* stats) const {
    float sum = sum_;
#pragma unroll
    for (int d = 4; d < kLanes; d *= 2) sum += __shfl_xor_sync(~0u, sum, d);
#pragma unroll
    for (int m = 0; m < kRows; ++m) {
      output[16 * m + g] = output_[m][0];
      output[16 * m + 8 + g] = output_[m][1];
    }
    if (g == 0) *stats = make_float2(maximum_, sum);
  }

 private:
  float maximum_;
  // Over the tokens of this lane.
  float sum_;
  float output_[kRows][2];
};

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_PARTIAL_RESULT_CUH_
