#include "kernels/cpu/encode.h"

#include <bit>
#include <cstddef>
#include <cstring>

#include "kernels/codec/block_part.h"
#include "kernels/codec/quantiser.h"
#include "kernels/codec/reference_codec.h"
#include "kernels/cpu/bit_stream.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/encode.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
// Better targets have lower bits; those below AVX2 take the reference.
#if HWY_TARGET <= HWY_AVX2
#include "kernels/cpu/encode_prune-inl.h"
#include "kernels/cpu/encode_quantise-inl.h"
#endif

HWY_BEFORE_NAMESPACE();
namespace kvattend {
namespace HWY_NAMESPACE {
namespace {

#if HWY_TARGET <= HWY_AVX2

// Writes those codes of `dense` [64][head_dim], kBits each, whose channels are kept.
template <int kBits>
void PackKept(const uint8_t* dense, const PartShape& shape, const uint64_t* bitmaps,
              uint8_t* codes) {
  constexpr int kCodesPerWord = 64 / kBits;
  constexpr uint64_t kCode = (uint64_t{1} << kBits) - 1;
  constexpr uint64_t kLowestBits = ~uint64_t{0} / kCode;
  constexpr uint64_t kChannels = ~uint64_t{0} >> (64 - kCodesPerWord);
  uint8_t packed[kBlockTokens * 256 * kBits / 8 + 8];
  BitWriter writer(packed);
  for (int i = 0; i < kBlockTokens * shape.head_dim / 64; ++i) {
    // 64 channels are kBits words of codes.
    uint64_t bitmap = bitmaps[i];
    for (int j = 0; j < kBits; ++j) {
      uint64_t word;
      std::memcpy(&word, dense, sizeof(word));
      dense += sizeof(word);
      const uint64_t kept = bitmap & kChannels;
      const uint64_t selected = _pdep_u64(kept, kLowestBits) * kCode;
      writer.Append(_pext_u64(word, selected), kBits * std::popcount(kept));
      bitmap >>= kCodesPerWord;
    }
  }
  std::memcpy(codes, packed, size_t{kBlockTokens} * shape.format.kept * kBits / 8);
}

#if HWY_TARGET <= HWY_AVX3_DL
// Twice as fast with VPCOMPRESSW. Highway's emulation of it elsewhere is slower than the above.
template <>
void PackKept<16>(const uint8_t* dense, const PartShape& shape, const uint64_t* bitmaps,
                  uint8_t* codes) {
  const hn::ScalableTag<uint16_t> d;
  const auto* kept = reinterpret_cast<const uint8_t*>(bitmaps);
  // Whole vectors are stored: the last one ends behind the codes.
  uint16_t packed[kBlockTokens * 256 + hn::MaxLanes(d)];
  uint16_t* out = packed;
  for (int i = 0; i < kBlockTokens * shape.head_dim; i += static_cast<int>(hn::Lanes(d))) {
    const auto mask = hn::LoadMaskBits(d, kept + i / 8);
    const auto x = hn::LoadU(d, reinterpret_cast<const uint16_t*>(dense) + i);
    hn::StoreU(hn::Compress(x, mask), d, out);
    out += hn::CountTrue(d, mask);
  }
  std::memcpy(codes, packed, size_t{2} * kBlockTokens * shape.format.kept);
}
#endif

// Writes the codes of a part from `dense` as above. Null `bitmaps` keep everything.
void PackCodes(const void* dense, const PartShape& shape, const uint64_t* bitmaps, uint8_t* codes) {
  const auto* bytes = static_cast<const uint8_t*>(dense);
  if (bitmaps == nullptr) {
    std::memcpy(codes, bytes, size_t{kBlockTokens} * shape.head_dim * shape.format.bits / 8);
    return;
  }
  switch (shape.format.bits) {
    case 2:
      return PackKept<2>(bytes, shape, bitmaps, codes);
    case 4:
      return PackKept<4>(bytes, shape, bitmaps, codes);
    case 8:
      return PackKept<8>(bytes, shape, bitmaps, codes);
    default:
      return PackKept<16>(bytes, shape, bitmaps, codes);
  }
}

// Writes the exponents and gives what they divide channels by, inverted: factors [head_dim].
void Equalise(const uint16_t* x, const PartShape& shape, float* factors, uint8_t* part) {
  float mean_squares[256];
  MeanSquares(x, shape.head_dim, mean_squares);
  for (int c = 0; c < shape.head_dim; ++c) {
    const int exponent = EqualiserExponent(mean_squares[c]);
    part[shape.layout.exponent_offset + c] = static_cast<uint8_t>(exponent);
    factors[c] = HalfOctavePower(-exponent);
  }
}

void Encode(const CodecSpec& codec, VectorRole role, const uint16_t* x, uint8_t* part) {
  const PartShape shape(codec, role);
  const VectorLayout& layout = shape.layout;
  const int head_dim = shape.head_dim;
  const auto [kept, bits] = shape.format;
  uint64_t bitmap_words[kBlockTokens * 256 / 64];
  const uint64_t* bitmaps = nullptr;
  if (layout.has_bitmaps) {
    Prune(x, head_dim, kept, bitmap_words);
    bitmaps = bitmap_words;
    std::memcpy(part + layout.bitmap_offset, bitmaps, size_t{kBlockTokens} * head_dim / 8);
  }
  // Codes of 16 bits are the values themselves.
  if (bits == 16) return PackCodes(x, shape, bitmaps, part + layout.code_offset);

  float factor_array[256];
  const float* factors = nullptr;
  if (layout.has_exponents) {
    Equalise(x, shape, factor_array, part);
    factors = factor_array;
  }
  uint16_t scales[kBlockTokens];
  uint64_t words[kBlockTokens * 256 / 8];
  TokenGroup group;
  group.head_dim = head_dim;
  group.format = shape.format;
  for (int token = 0; token < kBlockTokens; token += kLanes) {
    LoadGroup(x + token * head_dim, factors,
              bitmaps == nullptr ? nullptr : bitmaps + token * head_dim / 64, &group);
    QuantiseGroup(group, scales + token, words + token * head_dim * bits / 64);
  }
  std::memcpy(part + layout.scale_offset, scales, sizeof(scales));
  PackCodes(words, shape, bitmaps, part + layout.code_offset);
}

#else

void Encode(const CodecSpec& codec, VectorRole role, const uint16_t* x, uint8_t* part) {
  EncodeReference(codec, role, x, part);
}

#endif  // HWY_TARGET <= HWY_AVX2

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace kvattend
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvattend {

HWY_EXPORT(Encode);

void EncodePart(const CodecSpec& codec, VectorRole role, const uint16_t* x, uint8_t* part) {
  HWY_DYNAMIC_DISPATCH(Encode)(codec, role, x, part);
}

}  // namespace kvattend
#endif  // HWY_ONCE
