// The encoder of canonical blocks, fast: the bytes that EncodeReference writes.
//
// Thread-safe: pure functions. They need the default rounding mode and subnormals not flushed to
// zero. About 100 KiB of stack.
#ifndef KVATTEND_KERNELS_CPU_ENCODE_H_
#define KVATTEND_KERNELS_CPU_ENCODE_H_

#include <cstdint>

#include "kernels/codec/codec_spec.h"

namespace kvattend {

// Encodes finite float16 patterns x [64, head_dim] into the keys' or values' part of one KV head
// (kernels/codec/block_layout.h), which may have any alignment. Writes the whole part. The codec is
// one that ValidateCodec accepts.
void EncodePart(const CodecSpec& codec, VectorRole role, const uint16_t* x, uint8_t* part);

}  // namespace kvattend

#endif  // KVATTEND_KERNELS_CPU_ENCODE_H_
