// What the codec kernels must know of the keys' or the values' part of a codec, as plain numbers.
//
// Thread-safe: plain values and pure functions.
#ifndef KVATTEND_KERNELS_CUDA_PART_CODEC_H_
#define KVATTEND_KERNELS_CUDA_PART_CODEC_H_

#include "kernels/cuda/gpu_block_layout.h"

namespace kvattend {

struct CodecSpec;

namespace cuda {

struct PartCodec {
  GpuPartLayout gpu;
  // Byte offsets in a canonical part, and its size; see kernels/codec/block_layout.h.
  int bitmap_offset = 0;
  int exponent_offset = 0;
  int scale_offset = 0;
  int code_offset = 0;
  int size_bytes = 0;
  // TwoBitLevels; 0 for other widths.
  float ratio = 0.0f;
  float threshold = 0.0f;
  float first_border = 0.0f;

  KVATTEND_HOST_DEVICE bool has_scales() const { return gpu.bits < 16; }
  KVATTEND_HOST_DEVICE bool has_exponents() const { return gpu.is_key && gpu.bits < 16; }
};

struct BlockCodec {
  PartCodec keys;
  PartCodec values;

  // Of one KV head in a block of the arena, and in a canonical block.
  KVATTEND_HOST_DEVICE int gpu_head_bytes() const {
    return keys.gpu.size_bytes + values.gpu.size_bytes;
  }
  KVATTEND_HOST_DEVICE int head_bytes() const { return keys.size_bytes + values.size_bytes; }
};

// Of a codec that ValidateCodec accepts.
BlockCodec MakeBlockCodec(const CodecSpec& codec);

}  // namespace cuda
}  // namespace kvattend

#endif  // KVATTEND_KERNELS_CUDA_PART_CODEC_H_
