#include "kernels/cpu/native_block.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>

namespace kvattend {
namespace {

constexpr int kMaxElements = kBlockTokens * kMaxHeadDim;
constexpr int kGroupCodes = 64;

// Where the 64 elements of a native bitmap word lie in a dense [64 tokens][head_dim] array:
// element b of word w at WordBase(w) + offset[b].
class ElementMap {
 public:
  explicit ElementMap(const NativePart& part)
      : quads_(part.quads),
        num_reduced_(part.num_reduced()),
        lane_stride_(part.is_keys() ? part.head_dim : 1),
        reduced_stride_(part.is_keys() ? 1 : part.head_dim) {
    for (int b = 0; b < 64; ++b) {
      offset[b] = quads_ ? (b / 4) * lane_stride_ + (b % 4) * reduced_stride_ : b * lane_stride_;
    }
  }

  int WordBase(int word) const {
    // A word is 16 lanes of 4 reduction indices, two words a lane group; or 64 lanes of one.
    const int lane =
        quads_ ? word / (num_reduced_ / 2) * 32 + word % 2 * 16 : word / num_reduced_ * 64;
    const int reduced = quads_ ? word % (num_reduced_ / 2) / 2 * 4 : word % num_reduced_;
    return lane * lane_stride_ + reduced * reduced_stride_;
  }

  int offset[64];

 private:
  bool quads_;
  int num_reduced_;
  int lane_stride_;
  int reduced_stride_;
};

// One byte (value 1 or 0) an element to a bitmap word and back.
uint64_t GatherWord(const uint8_t* present, const int* offset) {
  uint64_t word = 0;
  for (int b = 0; b < 64; ++b) word |= uint64_t{present[offset[b]]} << b;
  return word;
}

// Canonical codes: one bit string.
void UnpackCanonical(const uint8_t* packed, int bits, int count, uint16_t* codes) {
  if (bits == 16) {
    std::memcpy(codes, packed, count * sizeof(uint16_t));
    return;
  }
  const int per_byte = 8 / bits;
  const int mask = (1 << bits) - 1;
  for (int i = 0; i < count; ++i) {
    codes[i] = (packed[i / per_byte] >> (bits * (i % per_byte))) & mask;
  }
}

void PackCanonical(const uint16_t* codes, int bits, int count, uint8_t* packed) {
  if (bits == 16) {
    std::memcpy(packed, codes, count * sizeof(uint16_t));
    return;
  }
  const int per_byte = 8 / bits;
  for (int i = 0; i < count; i += per_byte) {
    int byte = 0;
    for (int j = 0; j < per_byte; ++j) byte |= codes[i + j] << (bits * j);
    packed[i / per_byte] = static_cast<uint8_t>(byte);
  }
}

// Native codes: groups of 64 (see the header); num_groups == kept.
void UnpackNative(const uint8_t* packed, int bits, int num_groups, uint16_t* codes) {
  if (bits == 16) {
    std::memcpy(codes, packed, num_groups * kGroupCodes * sizeof(uint16_t));
    return;
  }
  const int group_bytes = 8 * bits;
  const int mask = (1 << bits) - 1;
  for (int g = 0; g < num_groups; ++g, packed += group_bytes, codes += kGroupCodes) {
    for (int k = 0; k < kGroupCodes; ++k) {
      codes[k] = (packed[k % group_bytes] >> (bits * (k / group_bytes))) & mask;
    }
  }
}

void PackNative(const uint16_t* codes, int bits, int num_groups, uint8_t* packed) {
  if (bits == 16) {
    std::memcpy(packed, codes, num_groups * kGroupCodes * sizeof(uint16_t));
    return;
  }
  const int group_bytes = 8 * bits;
  for (int g = 0; g < num_groups; ++g, packed += group_bytes, codes += kGroupCodes) {
    for (int i = 0; i < group_bytes; ++i) {
      int byte = 0;
      for (int j = 0; j < 8 / bits; ++j) byte |= codes[i + j * group_bytes] << (bits * j);
      packed[i] = static_cast<uint8_t>(byte);
    }
  }
}

void CopyExponentsAndScales(const NativePart& part, const uint8_t* from, uint8_t* to) {
  const VectorLayout& layout = part.layout;
  if (layout.has_exponents) {
    std::memcpy(to + layout.exponent_offset, from + layout.exponent_offset, part.head_dim);
  }
  if (layout.has_scales) {
    std::memcpy(to + layout.scale_offset, from + layout.scale_offset,
                kBlockTokens * sizeof(uint16_t));
  }
}

}  // namespace

NativePart MakeNativePart(const CodecSpec& codec, VectorRole role) {
  const bool is_keys = role == VectorRole::kKey;
  const VectorFormat& format = is_keys ? codec.keys : codec.values;
  const BlockLayout layout = MakeBlockLayout(codec);
  NativePart part;
  part.role = role;
  part.head_dim = codec.head_dim;
  part.kept = format.kept;
  part.bits = format.bits;
  part.layout = is_keys ? layout.keys : layout.values;
  // A pruned element of 8 bits would be 127.5, which a byte cannot hold.
  part.quads = format.bits <= 4 || (format.bits == 8 && !part.is_sparse());
  if (format.bits == 2) {
    // Levels +-s and +-r s, bit 1 the sign, as integers times a unit: r is 1.5, 2 or 3.25.
    const float ratio = TwoBitMagnitudeRatio(format, codec.head_dim);
    part.level_unit = ratio == 1.5f ? 0.5f : ratio == 2.0f ? 1.0f : 0.25f;
    const int low = static_cast<int>(1.0f / part.level_unit);
    const int high = static_cast<int>(ratio / part.level_unit);
    part.level_offset = high;
    const int levels[4] = {low, high, -low, -high};
    for (int i = 0; i < 4; ++i) part.levels[i] = static_cast<uint8_t>(high + levels[i]);
    part.level_norm = std::sqrt(part.kept * (low * low + high * high) / 2.0f);
  } else if (format.bits == 4) {
    part.level_offset = 15;  // 2u - 15, times half the scale
    part.level_unit = 0.5f;
    part.level_norm = std::sqrt(part.kept * 85.0f);  // the mean of (2u - 15)^2
  } else if (format.bits == 8) {
    part.level_offset = part.quads ? 128 : 0;  // u - 127.5
    part.level_bias = part.quads ? 0.5f : -127.5f;
    part.level_norm = std::sqrt(part.kept * 5461.25f);  // the mean of (u - 127.5)^2
  }
  return part;
}

void CanonicalToNative(const NativePart& part, const uint8_t* canonical, uint8_t* native) {
  CopyExponentsAndScales(part, canonical, native);
  const ElementMap map(part);
  const int num_words = part.head_dim;  // 64 * head_dim elements / 64
  uint16_t packed[kMaxElements];
  uint16_t dense[kMaxElements];
  UnpackCanonical(canonical + part.layout.code_offset, part.bits, kBlockTokens * part.kept, packed);
  uint16_t* next = packed;
  if (!part.is_sparse()) {
    std::memcpy(dense, packed, num_words * 64 * sizeof(uint16_t));
    for (int w = 0; w < num_words; ++w) {
      const uint16_t* const base = dense + map.WordBase(w);
      for (int b = 0; b < 64; ++b) *next++ = base[map.offset[b]];
    }
  } else {
    // Canonical words are rows of 64 channels, one after the other.
    uint8_t present[kMaxElements];
    for (int w = 0; w < num_words; ++w) {
      uint64_t word;
      std::memcpy(&word, canonical + part.layout.bitmap_offset + 8 * w, 8);
      for (int b = 0; b < 64; ++b) present[64 * w + b] = (word >> b) & 1;
      for (; word != 0; word &= word - 1) dense[64 * w + std::countr_zero(word)] = *next++;
    }
    next = packed;
    for (int w = 0; w < num_words; ++w) {
      const int base = map.WordBase(w);
      uint64_t word = GatherWord(present + base, map.offset);
      std::memcpy(native + part.layout.bitmap_offset + 8 * w, &word, 8);
      for (; word != 0; word &= word - 1) {
        *next++ = dense[base + map.offset[std::countr_zero(word)]];
      }
    }
  }
  PackNative(packed, part.bits, part.kept, native + part.layout.code_offset);
}

void NativeToCanonical(const NativePart& part, const uint8_t* native, uint8_t* canonical) {
  CopyExponentsAndScales(part, native, canonical);
  const ElementMap map(part);
  const int num_words = part.head_dim;
  uint16_t packed[kMaxElements] = {};
  uint16_t dense[kMaxElements];
  UnpackNative(native + part.layout.code_offset, part.bits, part.kept, packed);
  const uint16_t* next = packed;
  if (!part.is_sparse()) {
    for (int w = 0; w < num_words; ++w) {
      uint16_t* const base = dense + map.WordBase(w);
      for (int b = 0; b < 64; ++b) base[map.offset[b]] = *next++;
    }
    std::memcpy(packed, dense, num_words * 64 * sizeof(uint16_t));
  } else {
    uint8_t present[kMaxElements] = {};
    for (int w = 0; w < num_words; ++w) {
      uint64_t word;
      std::memcpy(&word, native + part.layout.bitmap_offset + 8 * w, 8);
      const int base = map.WordBase(w);
      for (; word != 0; word &= word - 1) {
        const int element = base + map.offset[std::countr_zero(word)];
        dense[element] = *next++;
        present[element] = 1;
      }
    }
    constexpr auto kIdentity = [] {
      std::array<int, 64> offsets{};
      for (int b = 0; b < 64; ++b) offsets[b] = b;
      return offsets;
    }();
    uint16_t* out = packed;
    for (int w = 0; w < num_words; ++w) {
      uint64_t word = GatherWord(present + 64 * w, kIdentity.data());
      std::memcpy(canonical + part.layout.bitmap_offset + 8 * w, &word, 8);
      for (; word != 0; word &= word - 1) *out++ = dense[64 * w + std::countr_zero(word)];
    }
  }
  PackCanonical(packed, part.bits, kBlockTokens * part.kept, canonical + part.layout.code_offset);
}

}  // namespace kvattend
