// Queries as B operands of the multiplication with keys.
//
// A query tile is 4 pairs of a query token and a query head. Operands have 8 columns: 2p has the
// high parts of pair p and 2p + 1 the low parts. Channels come in the order of the key tiles: lane
// 4 * n + j of an operand has channels j * head_dim / 4 + 8 * step + 0 .. 7 of column n.
#ifndef KVATTEND_KERNELS_CUDA_QUERY_OPERANDS_CUH_
#define KVATTEND_KERNELS_CUDA_QUERY_OPERANDS_CUH_

#include <cstdint>

#include "kernels/cuda/attend.h"
#include "kernels/cuda/fixed_point.cuh"
#include "kernels/cuda/ptx.cuh"

namespace kvattend::cuda {

// The query token of pair `pair` of a KV head; the head within the group is what remains.
__device__ __forceinline__ int TokenOfPair(const AttendItem& item, int pair) {
  // One query token is the common case, and divisions are slow.
  return item.num_query_tokens == 1 ? (pair >= item.group ? 1 : 0) : pair / item.group;
}

// Where the query of pair `pair` of a task begins; null where there is none.
template <int kHeadDim>
__device__ __forceinline__ const float* QueryOf(const AttendItem& item, const AttendTask& task,
                                                int pair) {
  const int token = TokenOfPair(item, task.first_pair + pair);
  if (token >= item.num_query_tokens) return nullptr;
  const int head = task.kv_head * item.group + task.first_pair + pair - token * item.group;
  return item.query + (static_cast<int64_t>(token) * item.num_query_heads + head) * kHeadDim;
}

// sqrt(2)^exponent of the channels that a lane of a QueryTile has. The lanes share the work through
// scratch memory, 4 * kHeadDim bytes of it.
template <int kHeadDim>
__device__ __forceinline__ void LoadFactors(const int8_t* exponents, int lane, uint8_t* scratch,
                                            float (&factors)[kHeadDim / 8]) {
  float4* all = reinterpret_cast<float4*>(scratch);
#pragma unroll
  for (int i = 0; i < kHeadDim / 4; i += kLanes) {
    if (i + lane >= kHeadDim / 4) break;
    const char4 e = reinterpret_cast<const char4*>(exponents)[i + lane];
    all[i + lane] =
        make_float4(Exp2(0.5f * static_cast<float>(e.x)), Exp2(0.5f * static_cast<float>(e.y)),
                    Exp2(0.5f * static_cast<float>(e.z)), Exp2(0.5f * static_cast<float>(e.w)));
  }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < kHeadDim / 32; ++i) {
    const float4 f = all[lane % 8 + 8 * i];
    factors[4 * i] = f.x;
    factors[4 * i + 1] = f.y;
    factors[4 * i + 2] = f.z;
    factors[4 * i + 3] = f.w;
  }
  __syncwarp();
}

// The largest of 8 neighbouring lanes.
__device__ __forceinline__ float MaxOfEight(float x) {
#pragma unroll
  for (int d = 1; d < 8; d *= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, d));
  return x;
}

// Keeps the queries of 4 pairs in shared memory: a lane has channels 4 * (lane % 8 + 8 * i) + 0 ..
// 3 of pair lane / 8, relative to the pair's largest magnitude, far from float32's limits.
template <int kHeadDim>
class QueryTile {
 public:
  static constexpr int kSteps = kHeadDim / 32;
  static constexpr int kValues = kHeadDim / 8;
  // Words between columns in scratch memory: free of bank conflicts.
  static constexpr int kColumnStride = kHeadDim / 4 + 4;
  static constexpr int kScratchBytes = 8 * kColumnStride * 4;
  static constexpr int kKeptBytes = kLanes * kValues * 4;

  // `query` is that of pair lane / 8, or null; `kept` has kKeptBytes for Prepare, or is null where
  // only PrepareHalf follows. Returns the largest magnitude.
  __device__ __forceinline__ float Load(const float* query, int lane, void* kept) {
    float values[kValues];
    float largest = 0.0f;
#pragma unroll
    for (int i = 0; i < kValues / 4; ++i) {
      float4 q = {0.0f, 0.0f, 0.0f, 0.0f};
      if (query != nullptr) q = reinterpret_cast<const float4*>(query)[lane % 8 + 8 * i];
      values[4 * i] = q.x;
      values[4 * i + 1] = q.y;
      values[4 * i + 2] = q.z;
      values[4 * i + 3] = q.w;
      largest = fmaxf(largest, fmaxf(fmaxf(fabsf(q.x), fabsf(q.y)), fmaxf(fabsf(q.z), fabsf(q.w))));
    }
    largest = MaxOfEight(largest);
    inverse_largest_ = largest > 1e-37f ? 1.0f / largest : 0.0f;
    if (kept == nullptr) return largest;
    kept_ = static_cast<float4*>(kept) + lane;
    // A lane reads what it wrote itself.
#pragma unroll
    for (int i = 0; i < kValues / 4; ++i) {
      kept_[i * kLanes] =
          make_float4(values[4 * i] * inverse_largest_, values[4 * i + 1] * inverse_largest_,
                      values[4 * i + 2] * inverse_largest_, values[4 * i + 3] * inverse_largest_);
    }
    return largest;
  }

  // Fixed-point operands [step][2] of the queries times `factors`. Returns what a unit of theirs is
  // worth, for pair lane % 4.
  __device__ __forceinline__ float Prepare(const float (&factors)[kValues], int lane,
                                           uint8_t* scratch, uint32_t (&columns)[kSteps][2]) const {
    float scaled[kValues];
    float largest = 0.0f;
#pragma unroll
    for (int i = 0; i < kValues / 4; ++i) {
      const float4 q = kept_[i * kLanes];
      scaled[4 * i] = q.x * factors[4 * i];
      scaled[4 * i + 1] = q.y * factors[4 * i + 1];
      scaled[4 * i + 2] = q.z * factors[4 * i + 2];
      scaled[4 * i + 3] = q.w * factors[4 * i + 3];
    }
#pragma unroll
    for (int i = 0; i < kValues; i += 4) {
      largest = fmaxf(largest, fmaxf(fmaxf(fabsf(scaled[i]), fabsf(scaled[i + 1])),
                                     fmaxf(fabsf(scaled[i + 2]), fabsf(scaled[i + 3]))));
    }
    largest = MaxOfEight(largest);
    const float inverse = largest > 1e-30f ? __fdividef(kFixedPointRange, largest) : 0.0f;
    uint32_t* words = reinterpret_cast<uint32_t*>(scratch);
    uint32_t* high = words + lane / 8 * 2 * kColumnStride + lane % 8;
#pragma unroll
    for (int i = 0; i < kValues / 4; ++i) {
      const FixedPoint4 word = RoundToFixedPoint(scaled[4 * i], scaled[4 * i + 1],
                                                 scaled[4 * i + 2], scaled[4 * i + 3], inverse);
      high[8 * i] = word.high;
      high[8 * i + kColumnStride] = word.low;
    }
    __syncwarp();
    const uint32_t* column = words + lane / 4 * kColumnStride + lane % 4 * 2 * kSteps;
#pragma unroll
    for (int i = 0; i < kSteps / 2; ++i) {
      const uint4 two_steps = reinterpret_cast<const uint4*>(column)[i];
      columns[2 * i][0] = two_steps.x;
      columns[2 * i][1] = two_steps.y;
      columns[2 * i + 1][0] = two_steps.z;
      columns[2 * i + 1][1] = two_steps.w;
    }
    return __shfl_sync(~0u, largest, 8 * (lane % 4)) * (1.0f / kFixedPointRange);
  }

  // float16 operands [16 channels][2]. `query` is that of pair lane / 8: of column lane / 4.
  __device__ __forceinline__ void PrepareHalf(const float* query, int lane,
                                              uint32_t (&columns)[2 * kSteps][2]) const {
    const bool is_low = lane / 4 % 2 != 0;
#pragma unroll
    for (int i = 0; i < 2 * kSteps; ++i) {
      float4 q = {0.0f, 0.0f, 0.0f, 0.0f};
      if (query != nullptr) {
        q = reinterpret_cast<const float4*>(query)[lane % 4 * (kHeadDim / 16) + i];
      }
      columns[i][0] = HalfPart(q.x * inverse_largest_, q.y * inverse_largest_, is_low);
      columns[i][1] = HalfPart(q.z * inverse_largest_, q.w * inverse_largest_, is_low);
    }
  }

 private:
  float4* kept_ = nullptr;
  float inverse_largest_ = 0.0f;
};

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_QUERY_OPERANDS_CUH_
