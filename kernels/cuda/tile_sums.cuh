// Sums of products of expanded tiles with fixed-point columns.
#ifndef KVATTEND_KERNELS_CUDA_TILE_SUMS_CUH_
#define KVATTEND_KERNELS_CUDA_TILE_SUMS_CUH_

#include <cstdint>

#include "kernels/cuda/fixed_point.cuh"
#include "kernels/cuda/ptx.cuh"

namespace kvattend::cuda {

// Of 16 rows, for kColumnTiles operands of 8 columns.
template <class Format, int kColumnTiles>
class TileSums {
 public:
  // Adds the products of `a`, the tile that `expander` yielded last, with step `step` of `columns`.
  template <class Expander, int kSteps>
  __device__ __forceinline__ void Add(const Expander& expander, uint32_t (&a)[4],
                                      const uint32_t (&columns)[kColumnTiles][kSteps][2],
                                      int step) {
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) {
      MultiplyInt8(sums_.value[n], a, columns[n][step][0], columns[n][step][1]);
    }
    if constexpr (Format::kNeedsPresence) {
      expander.Presence(a);
#pragma unroll
      for (int n = 0; n < kColumnTiles; ++n) {
        MultiplyInt8(present_.value[n], a, columns[n][step][0], columns[n][step][1]);
      }
    }
  }

  // Row g (r = 0) or g + 8 (r = 1) of the lane's pair.
  __device__ __forceinline__ float Get(int n, int r) const {
    if constexpr (Format::kNeedsPresence) return sums_.Get(n, r) + 0.5f * present_.Get(n, r);
    return sums_.Get(n, r);
  }

 private:
  FixedPointSums<kColumnTiles> sums_;
  FixedPointSums<Format::kNeedsPresence ? kColumnTiles : 0> present_;
};

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_TILE_SUMS_CUH_
