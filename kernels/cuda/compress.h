// Compressing tokens into blocks: prune, equalise, quantise and pack in one pass over the input.
// The bytes are those of the scalar reference.
//
// Pointers are memory that the device can read: its own, or pinned memory of the host. Asynchronous
// on `stream`; arrays must live until the work is done. head_dim must be 64, 128 or 256
// (cudaErrorInvalidValue).
#ifndef KVATTEND_KERNELS_CUDA_COMPRESS_H_
#define KVATTEND_KERNELS_CUDA_COMPRESS_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/part_codec.h"

namespace kvattend::cuda {

// 64 tokens of a layer: the first `num_paged` from pages, the others float16 [64 - num_paged,
// num_kv_heads, head_dim], aligned to 16 bytes.
struct CompressJob {
  // Offsets in the arena.
  uint64_t block = 0;
  uint64_t pages[kTokensPerBlock / kTokensPerPage] = {};
  const uint16_t* keys = nullptr;
  const uint16_t* values = nullptr;
  int64_t num_paged = 0;
};

struct CompressLaunch {
  BlockCodec codec;
  int num_kv_heads = 0;
  int num_jobs = 0;
  const CompressJob* jobs = nullptr;
  uint8_t* arena = nullptr;
};
cudaError_t LaunchCompress(const CompressLaunch& launch, cudaStream_t stream);

// Tensors [64 * num_blocks, num_kv_heads, head_dim] to canonical blocks.
struct EncodeLaunch {
  BlockCodec codec;
  int num_kv_heads = 0;
  int num_blocks = 0;
  const uint16_t* keys = nullptr;
  const uint16_t* values = nullptr;
  // Aligned to 16 bytes.
  uint8_t* canonical = nullptr;
};
cudaError_t LaunchEncode(const EncodeLaunch& launch, cudaStream_t stream);

// Decodes blocks, rounds to float16 (saturating) and encodes with another codec.
struct RecodeJob {
  uint64_t source = 0;
  uint64_t destination = 0;
};
struct RecodeLaunch {
  BlockCodec source_codec;
  BlockCodec codec;
  int num_kv_heads = 0;
  int num_jobs = 0;
  const RecodeJob* jobs = nullptr;
  uint8_t* arena = nullptr;
};
cudaError_t LaunchRecode(const RecodeLaunch& launch, cudaStream_t stream);

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_COMPRESS_H_
