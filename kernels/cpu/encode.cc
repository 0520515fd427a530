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

// Writes the kept values of x as they are: the codes of 16 bits. Null `bitmaps` keep everything.
void CopyKept(const uint16_t* x, const PartShape& shape, const uint64_t* bitmaps, uint8_t* codes) {
  if (bitmaps == nullptr) {
    std::memcpy(codes, x, size_t{2} * kBlockTokens * shape.head_dim);
    return;
  }
  const hn::ScalableTag<uint16_t> d;
  const auto* kept = reinterpret_cast<const uint8_t*>(bitmaps);
  const int row_bytes = 2 * shape.format.kept;
  for (int token = 0; token < kBlockTokens; ++token) {
    // Whole vectors are stored, so that a row ends up to a vector later.
    uint16_t row[256 + hn::MaxLanes(d)];
    int size = 0;
    for (int c = 0; c < shape.head_dim; c += static_cast<int>(hn::Lanes(d))) {
      const int i = token * shape.head_dim + c;
      const auto mask = hn::LoadMaskBits(d, kept + i / 8);
      hn::StoreU(hn::Compress(hn::LoadU(d, x + i), mask), d, row + size);
      size += static_cast<int>(hn::CountTrue(d, mask));
    }
    std::memcpy(codes + token * row_bytes, row, row_bytes);
  }
}

// Writes those codes of words [64][head_dim * kBits / 64] whose channels are kept.
template <int kBits>
void PackKept(const uint64_t* words, int head_dim, const uint64_t* bitmaps, uint8_t* codes,
              size_t size_bytes) {
  constexpr int kCodesPerWord = 64 / kBits;
  constexpr uint64_t kCode = (uint64_t{1} << kBits) - 1;
  constexpr uint64_t kLowestBits = ~uint64_t{0} / kCode;
  uint8_t packed[kBlockTokens * 256 + 8];
  BitWriter writer(packed);
  const int num_words = kBlockTokens * head_dim / kCodesPerWord;
  for (int w = 0; w < num_words; ++w) {
    const int first = w * kCodesPerWord;
    const uint64_t kept =
        bitmaps[first / 64] >> (first % 64) & (~uint64_t{0} >> (64 - kCodesPerWord));
    const uint64_t selected = _pdep_u64(kept, kLowestBits) * kCode;
    writer.Append(_pext_u64(words[w], selected), kBits * std::popcount(kept));
  }
  std::memcpy(codes, packed, size_bytes);
}

void PackCodes(const uint64_t* words, const PartShape& shape, const uint64_t* bitmaps,
               uint8_t* codes) {
  const size_t size_bytes = shape.layout.size_bytes - shape.layout.code_offset;
  if (bitmaps == nullptr) {
    std::memcpy(codes, words, size_bytes);
  } else if (shape.format.bits == 2) {
    PackKept<2>(words, shape.head_dim, bitmaps, codes, size_bytes);
  } else if (shape.format.bits == 4) {
    PackKept<4>(words, shape.head_dim, bitmaps, codes, size_bytes);
  } else {
    PackKept<8>(words, shape.head_dim, bitmaps, codes, size_bytes);
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
  if (bits == 16) return CopyKept(x, shape, bitmaps, part + layout.code_offset);

  float factor_array[256];
  const float* factors = nullptr;
  if (layout.has_exponents) {
    Equalise(x, shape, factor_array, part);
    factors = factor_array;
  }
  uint16_t scales[kBlockTokens];
  uint64_t words[kBlockTokens * 256 / 8];
  TokenGroup group{.head_dim = head_dim, .format = shape.format};
  for (int token = 0; token < kBlockTokens; token += kLanes) {
    LoadGroup(x + token * head_dim, factors,
              bitmaps == nullptr ? nullptr : bitmaps + token * head_dim / 64, &group);
    QuantiseGroup(&group, scales + token, words + token * head_dim * bits / 64);
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
