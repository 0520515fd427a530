// Writing exact tokens to pages, and copying pages.
//
// Pointers are memory that the device can read: its own, or pinned memory of the host. Asynchronous
// on `stream`; arrays must live until the work is done.
#ifndef KVATTEND_KERNELS_CUDA_PAGES_H_
#define KVATTEND_KERNELS_CUDA_PAGES_H_

#include <cuda_runtime_api.h>

#include <cstdint>

namespace kvattend::cuda {

// Tokens for slots first_slot .. of a page.
struct WritePageJob {
  // Offset in the arena.
  uint64_t page = 0;
  // float16 [num_tokens, num_kv_heads, head_dim], aligned to 16 bytes.
  const uint16_t* keys = nullptr;
  const uint16_t* values = nullptr;
  int32_t first_slot = 0;
  int32_t num_tokens = 0;
};
struct WritePagesLaunch {
  int head_dim = 0;
  int num_kv_heads = 0;
  int num_jobs = 0;
  const WritePageJob* jobs = nullptr;
  uint8_t* arena = nullptr;
};
cudaError_t LaunchWritePages(const WritePagesLaunch& launch, cudaStream_t stream);

// Whole pages, of a multiple of 16 bytes. No destination is another job's source.
struct CopyPageJob {
  uint64_t source = 0;
  uint64_t destination = 0;
  uint64_t size_bytes = 0;
};
struct CopyPagesLaunch {
  int num_jobs = 0;
  const CopyPageJob* jobs = nullptr;
  uint8_t* arena = nullptr;
};
cudaError_t LaunchCopyPages(const CopyPagesLaunch& launch, cudaStream_t stream);

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_PAGES_H_
