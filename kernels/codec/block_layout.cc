#include "kernels/codec/block_layout.h"

#include "kernels/base/check.h"

namespace kvattend {
namespace {

VectorLayout MakeVectorLayout(const VectorFormat& format, int head_dim, bool is_key) {
  VectorLayout layout;
  layout.has_bitmaps = format.kept < head_dim;
  layout.has_exponents = is_key && format.bits < 16;
  layout.has_scales = format.bits < 16;

  size_t offset = 0;
  layout.bitmap_offset = offset;
  if (layout.has_bitmaps) offset += size_t{kBlockTokens} * head_dim / 8;
  layout.exponent_offset = offset;
  if (layout.has_exponents) offset += head_dim;
  layout.scale_offset = offset;
  if (layout.has_scales) offset += kBlockTokens * sizeof(uint16_t);
  layout.code_offset = offset;
  // 64 codes of any width fill whole bytes.
  offset += size_t{kBlockTokens} * format.kept * format.bits / 8;
  layout.size_bytes = offset;
  return layout;
}

}  // namespace

BlockLayout MakeBlockLayout(const CodecSpec& codec) {
  KVATTEND_CHECK(ValidateCodec(codec).ok());
  BlockLayout layout;
  layout.keys = MakeVectorLayout(codec.keys, codec.head_dim, /*is_key=*/true);
  layout.values = MakeVectorLayout(codec.values, codec.head_dim, /*is_key=*/false);
  layout.head_bytes = layout.keys.size_bytes + layout.values.size_bytes;
  return layout;
}

}  // namespace kvattend
