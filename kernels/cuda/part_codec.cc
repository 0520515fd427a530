#include "kernels/cuda/part_codec.h"

#include "kernels/codec/block_layout.h"
#include "kernels/codec/codec_spec.h"
#include "kernels/codec/quantiser.h"

namespace kvattend::cuda {
namespace {

PartCodec MakePartCodec(const CodecSpec& codec, VectorRole role) {
  const VectorFormat& format = codec.format(role);
  const VectorLayout layout = MakeBlockLayout(codec).part(role);
  PartCodec part;
  part.gpu = MakeGpuPartLayout(codec.head_dim, format.kept, format.bits, role == VectorRole::kKey);
  part.bitmap_offset = static_cast<int>(layout.bitmap_offset);
  part.exponent_offset = static_cast<int>(layout.exponent_offset);
  part.scale_offset = static_cast<int>(layout.scale_offset);
  part.code_offset = static_cast<int>(layout.code_offset);
  part.size_bytes = static_cast<int>(layout.size_bytes);
  if (format.bits == 2) {
    const TwoBitLevels levels = TwoBitLevelsOf(format, codec.head_dim);
    part.ratio = levels.ratio;
    part.threshold = levels.threshold;
    part.first_border = levels.first_border;
  }
  return part;
}

}  // namespace

BlockCodec MakeBlockCodec(const CodecSpec& codec) {
  return {.keys = MakePartCodec(codec, VectorRole::kKey),
          .values = MakePartCodec(codec, VectorRole::kValue)};
}

}  // namespace kvattend::cuda
