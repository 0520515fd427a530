// The scalar reference of the codec: easy to read, not fast. It is normative for the bytes, as
// docs/formats.md states them; every backend must yield the same ones.
//
// A part is the keys' or the values' share of one KV head in a canonical block of 64 tokens:
// MakeBlockLayout(codec).part(role).size_bytes bytes. Codecs must be ones that ValidateCodec
// accepts.
//
// Thread-safe: pure functions.
#ifndef KVATTEND_KERNELS_CODEC_REFERENCE_CODEC_H_
#define KVATTEND_KERNELS_CODEC_REFERENCE_CODEC_H_

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/codec/codec_spec.h"

namespace kvattend {

// Encodes finite float16 patterns x [64, head_dim]. Writes the whole part.
void EncodeReference(const CodecSpec& codec, VectorRole role, const uint16_t* x, uint8_t* part);

// Decodes a part that EncodeReference wrote or ValidateBlockPart accepts into x [64, head_dim], all
// finite; channels that were not kept become +0.
void DecodeReference(const CodecSpec& codec, VectorRole role, const uint8_t* part, float* x);

// For blocks from outside. INVALID_ARGUMENT naming the token or channel where a token's bitmap has
// not exactly `kept` bits, an exponent is impossible, a scale is negative or not finite, or a
// 16-bit code is not finite: everything that decoders rely on.
absl::Status ValidateBlockPart(const CodecSpec& codec, VectorRole role, const uint8_t* part);

}  // namespace kvattend

#endif  // KVATTEND_KERNELS_CODEC_REFERENCE_CODEC_H_
