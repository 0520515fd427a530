// Expansion of blocks with instructions that Highway has no name for: AVX-512 with VBMI and VBMI2
// (its target AVX3_DL and those that include it). Compiled once for each instruction set; empty but
// for KVATTEND_AVX3_DL, which is 1 where the target has them (and VNNI), else 0.
#if defined(KVATTEND_KERNELS_CPU_AVX3_DL_READ_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVATTEND_KERNELS_CPU_AVX3_DL_READ_INL_H_
#undef KVATTEND_KERNELS_CPU_AVX3_DL_READ_INL_H_
#else
#define KVATTEND_KERNELS_CPU_AVX3_DL_READ_INL_H_
#endif

#include <bit>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "kernels/cpu/native_block.h"

#undef KVATTEND_AVX3_DL
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3_DL
#define KVATTEND_AVX3_DL 1

#include <immintrin.h>

HWY_BEFORE_NAMESPACE();
namespace kvattend {
namespace HWY_NAMESPACE {

// 64 bytes, byte i being f(i).
struct ByteTable {
  template <typename F>
  explicit constexpr ByteTable(F f) {
    for (int i = 0; i < 64; ++i) bytes[i] = static_cast<uint8_t>(f(i));
  }
  HWY_INLINE __m512i Load() const { return _mm512_load_si512(bytes); }
  alignas(64) uint8_t bytes[64] = {};
};

// The stored bytes (see NativePart) of a group of 64 codes: one shift for each quarter (2 bits) or
// half (4 bits) of the vector, then what the format makes of the lowest bits.
template <int kBits>
class GroupUnpacker;

template <>
class GroupUnpacker<2> {
 public:
  explicit GroupUnpacker(const NativePart& part) : shifts_(kShifts.Load()) {
    int32_t levels;
    std::memcpy(&levels, part.levels, sizeof(levels));
    levels_ = _mm512_set1_epi32(levels);
  }
  HWY_INLINE __m512i operator()(const uint8_t* group) const {
    const __m512i packed =
        _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(group)));
    return _mm512_permutexvar_epi8(_mm512_multishift_epi64_epi8(shifts_, packed), levels_);
  }

 private:
  // Byte i: 8 bits from bit 8 * (i % 8) + 2 * (i / 16) on of its 64; the lowest two count.
  static constexpr ByteTable kShifts{[](int i) { return 8 * (i % 8) + 2 * (i / 16); }};
  __m512i shifts_;
  __m512i levels_;
};

template <>
class GroupUnpacker<4> {
 public:
  explicit GroupUnpacker(const NativePart& part) : shifts_(kShifts.Load()) {}
  HWY_INLINE __m512i operator()(const uint8_t* group) const {
    const __m512i packed =
        _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(group)));
    return _mm512_and_si512(_mm512_multishift_epi64_epi8(shifts_, packed), _mm512_set1_epi8(30));
  }

 private:
  // One bit before the code, so that it comes out doubled.
  static constexpr ByteTable kShifts{[](int i) { return (8 * (i % 8) + 4 * (i / 32) + 63) % 64; }};
  __m512i shifts_;
};

template <>
class GroupUnpacker<8> {
 public:
  explicit GroupUnpacker(const NativePart& part) {}
  HWY_INLINE __m512i operator()(const uint8_t* group) const { return _mm512_loadu_si512(group); }
};

template <int kBits>
HWY_INLINE void UnpackGroups(const NativePart& part, const uint8_t* data, uint8_t* codes) {
  const GroupUnpacker<kBits> unpack(part);
  data += part.layout.code_offset;
  for (int g = 0; g < part.kept; ++g) {
    _mm512_store_si512(codes + 64 * g, unpack(data + 8 * kBits * g));
  }
}

// Reads the elements of a part in quad order, 64 at a time.
template <int kBits>
class DenseReader {
 public:
  DenseReader(const NativePart& part, const uint8_t* data)
      : unpack_(part), next_(data + part.layout.code_offset) {}
  HWY_INLINE __m512i Next() {
    const __m512i group = unpack_(next_);
    next_ += 8 * kBits;
    return group;
  }

 private:
  GroupUnpacker<kBits> unpack_;
  const uint8_t* next_;
};

class SparseReader {
 public:
  // Unpacks all codes to `codes` first: they are fewer than elements.
  SparseReader(const NativePart& part, const uint8_t* data, uint8_t* codes)
      : pruned_(_mm512_set1_epi8(static_cast<char>(part.level_offset))),
        next_word_(data + part.layout.bitmap_offset),
        next_code_(codes) {
    if (part.bits == 2) UnpackGroups<2>(part, data, codes);
    if (part.bits == 4) UnpackGroups<4>(part, data, codes);
  }
  HWY_INLINE __m512i Next() {
    uint64_t word;
    std::memcpy(&word, next_word_, sizeof(word));
    const __m512i group =
        _mm512_mask_expand_epi8(pruned_, _cvtu64_mask64(word), _mm512_loadu_si512(next_code_));
    next_word_ += sizeof(word);
    next_code_ += std::popcount(word);
    return group;
  }

 private:
  __m512i pruned_;
  const uint8_t* next_word_;
  const uint8_t* next_code_;
};

// Float16 elements of the bitmap words first_word .. last_word - 1 of a part in plain order;
// returns the index of the code after theirs. Reads nothing past the codes: expanding loads touch
// only what they need.
inline int ExpandHalves(const NativePart& part, const uint8_t* data, int first_word, int last_word,
                        int next_code, uint16_t* halves) {
  const uint8_t* const bitmaps = data + part.layout.bitmap_offset;
  const uint8_t* const codes = data + part.layout.code_offset;
  // Hidden from the compiler, which would choose the zeroing form: on Zen 5 that waits for the old
  // value of its destination.
  __m512i zero = _mm512_setzero_si512();
  asm("" : "+v"(zero));
  for (int half = 2 * first_word; half < 2 * last_word; ++half, halves += 32) {
    uint32_t word;
    std::memcpy(&word, bitmaps + 4 * half, sizeof(word));
    _mm512_storeu_si512(
        halves, _mm512_mask_expandloadu_epi16(zero, _cvtu32_mask32(word), codes + 2 * next_code));
    next_code += std::popcount(word);
  }
  return next_code;
}

}  // namespace HWY_NAMESPACE
}  // namespace kvattend
HWY_AFTER_NAMESPACE();

#else
#define KVATTEND_AVX3_DL 0
#endif  // AVX3_DL

#endif  // KVATTEND_KERNELS_CPU_AVX3_DL_READ_INL_H_
