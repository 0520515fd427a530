#include "kernels/codec/block_part.h"

#include <cstddef>

namespace kvattend {
namespace {

uint16_t LoadHalf(const uint8_t* bytes) {
  return static_cast<uint16_t>(bytes[0] | (bytes[1] << 8));
}

void StoreHalf(uint16_t half, uint8_t* bytes) {
  bytes[0] = static_cast<uint8_t>(half);
  bytes[1] = static_cast<uint8_t>(half >> 8);
}

// Bit c % 64 of little-endian 64-bit word c / 64 is bit c % 8 of byte c / 8.
size_t BitmapOffset(const PartShape& shape, int token) {
  return shape.layout.bitmap_offset + static_cast<size_t>(token * shape.head_dim / 8);
}

// Where a code begins: the first bit, counted from the start of the part. A token's row of codes
// may begin within a byte, but no code of up to 8 bits straddles two.
size_t CodeBit(const PartShape& shape, int token, int index) {
  const auto code = static_cast<size_t>(token * shape.format.kept + index);
  return 8 * shape.layout.code_offset + code * static_cast<size_t>(shape.format.bits);
}

}  // namespace

ChannelMask LoadMask(const PartShape& shape, const uint8_t* part, int token) {
  ChannelMask mask(static_cast<size_t>(shape.head_dim), true);
  if (!shape.layout.has_bitmaps) return mask;
  const uint8_t* bitmap = part + BitmapOffset(shape, token);
  for (int c = 0; c < shape.head_dim; ++c) mask[c] = ((bitmap[c / 8] >> (c % 8)) & 1) != 0;
  return mask;
}

int LoadExponent(const PartShape& shape, const uint8_t* part, int channel) {
  if (!shape.layout.has_exponents) return 0;
  return static_cast<int8_t>(part[shape.layout.exponent_offset + channel]);
}

uint16_t LoadScale(const PartShape& shape, const uint8_t* part, int token) {
  return LoadHalf(part + shape.layout.scale_offset + 2 * token);
}

uint16_t LoadCode(const PartShape& shape, const uint8_t* part, int token, int index) {
  const size_t bit = CodeBit(shape, token, index);
  if (shape.format.bits == 16) return LoadHalf(part + bit / 8);
  return static_cast<uint16_t>((part[bit / 8] >> (bit % 8)) & ((1 << shape.format.bits) - 1));
}

void StoreMask(const PartShape& shape, const ChannelMask& mask, int token, uint8_t* part) {
  if (!shape.layout.has_bitmaps) return;
  uint8_t* bitmap = part + BitmapOffset(shape, token);
  for (int c = 0; c < shape.head_dim; ++c) {
    if (mask[c]) bitmap[c / 8] |= static_cast<uint8_t>(1 << (c % 8));
  }
}

void StoreExponent(const PartShape& shape, int exponent, int channel, uint8_t* part) {
  if (!shape.layout.has_exponents) return;
  part[shape.layout.exponent_offset + channel] = static_cast<uint8_t>(exponent);
}

void StoreScale(const PartShape& shape, uint16_t scale, int token, uint8_t* part) {
  if (!shape.layout.has_scales) return;
  StoreHalf(scale, part + shape.layout.scale_offset + 2 * token);
}

void StoreCode(const PartShape& shape, uint16_t code, int token, int index, uint8_t* part) {
  const size_t bit = CodeBit(shape, token, index);
  if (shape.format.bits == 16) return StoreHalf(code, part + bit / 8);
  part[bit / 8] |= static_cast<uint8_t>(code << (bit % 8));
}

}  // namespace kvattend
