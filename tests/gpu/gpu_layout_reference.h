// The GPU layout of parts and pages, made element by element from kernels/cuda/gpu_block_layout.h:
// the reference for kernels that write or convert it.
//
// Thread-safe: pure functions.
#ifndef KVATTEND_TESTS_GPU_GPU_LAYOUT_REFERENCE_H_
#define KVATTEND_TESTS_GPU_GPU_LAYOUT_REFERENCE_H_

#include <cstdint>
#include <vector>

#include "kernels/codec/codec_spec.h"

namespace kvattend::testing {

// A canonical part in the GPU layout.
std::vector<uint8_t> ToGpuPart(const CodecSpec& codec, VectorRole role, const uint8_t* canonical);

// One KV head of a page from float16 keys and values [num_tokens, head_dim]; other slots hold NaN.
std::vector<uint16_t> ToGpuPage(int head_dim, int num_tokens, const uint16_t* keys,
                                const uint16_t* values);

}  // namespace kvattend::testing

#endif  // KVATTEND_TESTS_GPU_GPU_LAYOUT_REFERENCE_H_
