// Blocks between the GPU's layout, the canonical form and float32.
//
// Pointers are memory that the device can read and write: its own, or pinned memory of the host;
// canonical blocks are aligned to 16 bytes. Asynchronous on `stream`; arrays must live until the
// work is done. head_dim must be 64, 128 or 256 (cudaErrorInvalidValue).
#ifndef KVATTEND_KERNELS_CUDA_CONVERT_H_
#define KVATTEND_KERNELS_CUDA_CONVERT_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/part_codec.h"

namespace kvattend::cuda {

struct ConvertLaunch {
  BlockCodec codec;
  int num_kv_heads = 0;
  int num_blocks = 0;
  // Offsets in the arena.
  const uint64_t* blocks = nullptr;
  uint8_t* arena = nullptr;
  // [num_blocks][num_kv_heads][codec.head_bytes()].
  uint8_t* canonical = nullptr;
};
// Arena to canonical blocks.
cudaError_t LaunchReadBlocks(const ConvertLaunch& launch, cudaStream_t stream);
// Canonical blocks, valid ones, to the arena.
cudaError_t LaunchWriteBlocks(const ConvertLaunch& launch, cudaStream_t stream);

// Canonical blocks to tensors [64 * num_blocks, num_kv_heads, head_dim].
struct DecodeLaunch {
  BlockCodec codec;
  int num_kv_heads = 0;
  int num_blocks = 0;
  const uint8_t* canonical = nullptr;
  float* keys = nullptr;
  float* values = nullptr;
};
cudaError_t LaunchDecode(const DecodeLaunch& launch, cudaStream_t stream);

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_CONVERT_H_
