// Where the parts of a canonical block (version 1) lie. Specified in docs/formats.md.
//
// A block holds 64 tokens of one layer. For each KV head: the keys' part, then the values' part,
// each made of, in this order,
//   bitmaps    [64][head_dim / 64] little-endian uint64; bit c % 64 of word c / 64 is set where
//              channel c is kept; absent where kept == head_dim
//   exponents  [head_dim] int8, half octaves, of the channels; only keys of less than 16 bits
//   scales     [64] float16, of the tokens; only where bits < 16
//   codes      [64][kept], token-major, channels ascending, least significant bit first
#ifndef KVATTEND_KERNELS_CODEC_BLOCK_LAYOUT_H_
#define KVATTEND_KERNELS_CODEC_BLOCK_LAYOUT_H_

#include <cstddef>

#include "kernels/codec/codec_spec.h"

namespace kvattend {

// Byte offsets from the start of the keys' or values' part of one KV head.
struct VectorLayout {
  bool has_bitmaps = false;
  bool has_exponents = false;
  bool has_scales = false;
  size_t bitmap_offset = 0;
  size_t exponent_offset = 0;
  size_t scale_offset = 0;
  size_t code_offset = 0;
  // Of the whole part.
  size_t size_bytes = 0;
};

struct BlockLayout {
  VectorLayout keys;
  VectorLayout values;
  // Of one KV head: keys.size_bytes + values.size_bytes. The values' part begins at
  // keys.size_bytes.
  size_t head_bytes = 0;

  const VectorLayout& part(VectorRole role) const {
    return role == VectorRole::kKey ? keys : values;
  }
};

// The layout of a codec that ValidateCodec accepts.
BlockLayout MakeBlockLayout(const CodecSpec& codec);

// Bytes of 64 tokens of one KV head, keys and values, as dense float16.
constexpr size_t DenseHeadBytes(int head_dim) {
  return size_t{2} * kBlockTokens * static_cast<size_t>(head_dim) * sizeof(uint16_t);
}

}  // namespace kvattend

#endif  // KVATTEND_KERNELS_CODEC_BLOCK_LAYOUT_H_
