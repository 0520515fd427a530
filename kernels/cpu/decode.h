// The decoder of canonical blocks, fast: the values that DecodeReference gives, bit for bit.
//
// Thread-safe: pure functions. About 70 KiB of stack.
#ifndef KVATTEND_KERNELS_CPU_DECODE_H_
#define KVATTEND_KERNELS_CPU_DECODE_H_

#include <cstdint>

#include "kernels/codec/codec_spec.h"

namespace kvattend {

// Decodes the keys' or values' part of one KV head, one that EncodePart wrote or ValidateBlockPart
// accepts, into x [64, head_dim]; channels that were not kept become +0. The codec is one that
// ValidateCodec accepts. `part` may have any alignment.
void DecodePart(const CodecSpec& codec, VectorRole role, const uint8_t* part, float* x);

}  // namespace kvattend

#endif  // KVATTEND_KERNELS_CPU_DECODE_H_
