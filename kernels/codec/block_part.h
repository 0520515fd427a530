// Access to the fields of one part of a canonical block, one element at a time: the bit order of
// docs/formats.md for code that values clarity over speed.
//
// Thread-safe as plain memory is. Parts are borrowed.
#ifndef KVATTEND_KERNELS_CODEC_BLOCK_PART_H_
#define KVATTEND_KERNELS_CODEC_BLOCK_PART_H_

#include <cstdint>
#include <vector>

#include "kernels/codec/block_layout.h"
#include "kernels/codec/codec_spec.h"

namespace kvattend {

// What a part of a codec looks like.
struct PartShape {
  PartShape(const CodecSpec& codec, VectorRole role)
      : head_dim(codec.head_dim),
        format(codec.format(role)),
        layout(MakeBlockLayout(codec).part(role)) {}

  int head_dim;
  VectorFormat format;
  VectorLayout layout;
};

// Which of a token's channels are kept; [head_dim].
using ChannelMask = std::vector<bool>;

// All channels where the part has no bitmaps.
ChannelMask LoadMask(const PartShape& shape, const uint8_t* part, int token);
// 0 where the part has no exponents.
int LoadExponent(const PartShape& shape, const uint8_t* part, int channel);
// A float16; the part must have scales.
uint16_t LoadScale(const PartShape& shape, const uint8_t* part, int token);
// `index` counts a token's kept channels from 0.
uint16_t LoadCode(const PartShape& shape, const uint8_t* part, int token, int index);

// The same fields, into bytes that were zero. What the part does not have is not written.
void StoreMask(const PartShape& shape, const ChannelMask& mask, int token, uint8_t* part);
void StoreExponent(const PartShape& shape, int exponent, int channel, uint8_t* part);
void StoreScale(const PartShape& shape, uint16_t scale, int token, uint8_t* part);
void StoreCode(const PartShape& shape, uint16_t code, int token, int index, uint8_t* part);

}  // namespace kvattend

#endif  // KVATTEND_KERNELS_CODEC_BLOCK_PART_H_
