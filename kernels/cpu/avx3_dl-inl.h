// Expansion and integer products with the instructions that Highway has no name for: AVX-512 with
// VBMI, VBMI2 and VNNI (its target AVX3_DL and those that include it). Compiled once for each
// instruction set; empty but for KVATTEND_AVX3_DL where the target lacks them.
#if defined(KVATTEND_KERNELS_CPU_AVX3_DL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVATTEND_KERNELS_CPU_AVX3_DL_INL_H_
#undef KVATTEND_KERNELS_CPU_AVX3_DL_INL_H_
#else
#define KVATTEND_KERNELS_CPU_AVX3_DL_INL_H_
#endif

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>

#include "hwy/highway.h"
#include "kernels/cpu/attention_scratch.h"
#include "kernels/cpu/multiply-inl.h"
#include "kernels/cpu/native_block.h"

#undef KVATTEND_AVX3_DL
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3_DL
#define KVATTEND_AVX3_DL 1

#include <immintrin.h>

// HWY_BEFORE_NAMESPACE() of Highway 1.0.3 has all but VNNI in 512 bits. What is called from other
// files must not be forced inline: their functions lack it.
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512vnni")
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

// Rows of integer weights as planes of signed bytes: a weight is (65536 * top + 256 * high + low) *
// unit[r]. Row r begins at bytes + 3 * num_reduced * r with its high plane, then low, then top.
// Most top bytes are 0: only the groups of four (as VPDPBUSD reduces them) named by top_quads[r]
// are multiplied.
struct PackedRows {
  PackedRows From(int row) const {
    return {bytes + 3 * num_reduced * row,
            num_reduced,
            unit + row,
            sum + row,
            top_sum + row,
            top_quads + row};
  }
  int8_t* bytes;
  int num_reduced;
  float* unit;
  // The sums of a row's weights: of 256 * high + low, and of top.
  int32_t* sum;
  int32_t* top_sum;
  uint64_t* top_quads;
};

// Integers whose bytes are a plane's, from 64 weights to which 0x8080 has been added, 16 a vector.
struct Planes {
  HWY_INLINE explicit Planes(const __m512i* biased) {
    const __m512i even_words = kEvenWords.Load();
    const __m512i odd_words = kOddWords.Load();
    const __m512i even_bytes = kEvenBytes.Load();
    const __m512i odd_bytes = kOddBytes.Load();
    const __m512i a = _mm512_permutex2var_epi16(biased[0], even_words, biased[1]);
    const __m512i b = _mm512_permutex2var_epi16(biased[2], even_words, biased[3]);
    const __m512i a_top = _mm512_permutex2var_epi16(biased[0], odd_words, biased[1]);
    const __m512i b_top = _mm512_permutex2var_epi16(biased[2], odd_words, biased[3]);
    const __m512i sign = _mm512_set1_epi8(static_cast<char>(0x80));
    high = _mm512_xor_si512(_mm512_permutex2var_epi8(a, odd_bytes, b), sign);
    low = _mm512_xor_si512(_mm512_permutex2var_epi8(a, even_bytes, b), sign);
    top = _mm512_permutex2var_epi8(a_top, even_bytes, b_top);
  }
  // Of two vectors.
  static constexpr ByteTable kEvenWords{[](int i) { return i % 2 == 0 ? i : 0; }};
  static constexpr ByteTable kOddWords{[](int i) { return i % 2 == 0 ? i + 1 : 0; }};
  static constexpr ByteTable kEvenBytes{[](int i) { return 2 * i; }};
  static constexpr ByteTable kOddBytes{[](int i) { return 2 * i + 1; }};

  __m512i high;
  __m512i low;
  __m512i top;
};

// Rounds the products of weights and multipliers to integers times a unit: the largest is 32639 of
// them, or more where unit_limit asks for a smaller unit. 32639 = 127 * 257 is the most that the
// planes high and low hold, 127 * 65793 with top; near that, float32's rounding of the unit and its
// inverse moves the largest by up to 2.
template <int kReduced>
HWY_INLINE void PackRow(const float* weights, const float* multipliers, float unit_limit,
                        PackedRows row) {
  constexpr float kMaxWeight = 127.0f * 257.0f;
  constexpr float kMaxTopWeight = 127.0f * 65793.0f - 4.0f;
  constexpr int kVectors = kReduced / 16;
  __m512 x[kVectors];
  __m512 max = _mm512_setzero_ps();
  KVATTEND_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    x[v] = _mm512_mul_ps(_mm512_loadu_ps(weights + 16 * v), _mm512_load_ps(multipliers + 16 * v));
    max = _mm512_max_ps(max, _mm512_abs_ps(x[v]));
  }
  const float largest = _mm512_reduce_max_ps(max);
  const float unit = std::max(std::min(largest * (1.0f / kMaxWeight), unit_limit),
                              largest * (1.0f / kMaxTopWeight));
  // The inverse of a subnormal could overflow; such weights are nothing beside any score.
  const bool is_normal = unit >= std::numeric_limits<float>::min();
  const __m512 inverse = _mm512_set1_ps(is_normal ? 1.0f / unit : 0.0f);
  const __m512i ones = _mm512_set1_epi8(1);
  __m512i high_sum = _mm512_setzero_si512();
  __m512i low_sum = _mm512_setzero_si512();
  __m512i top_sum = _mm512_setzero_si512();
  uint64_t top_quads = 0;
  KVATTEND_UNROLL
  for (int v = 0; v < kVectors; v += 4) {
    __m512i biased[4];
    KVATTEND_UNROLL
    for (int j = 0; j < 4; ++j) {
      const __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps(x[v + j], inverse));
      biased[j] = _mm512_add_epi32(rounded, _mm512_set1_epi32(0x8080));
    }
    const Planes planes(biased);
    _mm512_store_si512(row.bytes + 16 * v, planes.high);
    _mm512_store_si512(row.bytes + kReduced + 16 * v, planes.low);
    _mm512_store_si512(row.bytes + 2 * kReduced + 16 * v, planes.top);
    high_sum = _mm512_dpbusd_epi32(high_sum, ones, planes.high);
    low_sum = _mm512_dpbusd_epi32(low_sum, ones, planes.low);
    top_sum = _mm512_dpbusd_epi32(top_sum, ones, planes.top);
    top_quads |= uint64_t{_mm512_test_epi32_mask(planes.top, planes.top)} << (4 * v);
  }
  *row.unit = is_normal ? unit : 0.0f;
  *row.sum = _mm512_reduce_add_epi32(_mm512_add_epi32(_mm512_slli_epi32(high_sum, 8), low_sum));
  *row.top_sum = top_quads == 0 ? 0 : _mm512_reduce_add_epi32(top_sum);
  *row.top_quads = top_quads;
}

// `multipliers` has as many elements as a row.
inline void PackRows(ConstRows weights, const float* multipliers, float unit_limit, int num_rows,
                     PackedRows rows) {
  for (int r = 0; r < num_rows; ++r) {
    const float* const row = weights.From(r, 0).data;
    if (rows.num_reduced == 64) PackRow<64>(row, multipliers, unit_limit, rows.From(r));
    if (rows.num_reduced == 128) PackRow<128>(row, multipliers, unit_limit, rows.From(r));
    if (rows.num_reduced == 256) PackRow<256>(row, multipliers, unit_limit, rows.From(r));
  }
}

// Reads a lane group of a part in quad order that has been expanded.
class TileReader {
 public:
  explicit TileReader(const uint8_t* tile) : next_(tile) {}
  HWY_INLINE __m512i Next() {
    const __m512i group = _mm512_load_si512(next_);
    next_ += 64;
    return group;
  }

 private:
  const uint8_t* next_;
};

constexpr int kQuadVectors = 2;  // of a lane group

// Not __m512i, of 64-bit elements: converting to and fro, GCC 12 copies sums in every iteration.
using Int32Vector = int32_t __attribute__((vector_size(64)));
template <int kNumRows>
using QuadSums = Int32Vector[kNumRows][kQuadVectors];

HWY_INLINE Int32Vector MultiplyAdd(Int32Vector sum, __m512i x, __m512i w) {
  return (Int32Vector)_mm512_dpbusd_epi32((__m512i)sum, x, w);
}

// sums[r][v] += x[v] * the four weights at `quads` of each row.
template <int kNumRows>
HWY_INLINE void MultiplyQuads(const __m512i (&x)[kQuadVectors], const int8_t* quads, int row_bytes,
                              QuadSums<kNumRows>& sums) {
  KVATTEND_UNROLL
  for (int r = 0; r < kNumRows; ++r) {
    int32_t quad;
    std::memcpy(&quad, quads + r * row_bytes, sizeof(quad));
    const __m512i w = _mm512_set1_epi32(quad);
    KVATTEND_UNROLL
    for (int v = 0; v < kQuadVectors; ++v) sums[r][v] = MultiplyAdd(sums[r][v], x[v], w);
  }
}

// Gives store(row, vector, products) the products, in units of the row, of kNumRows rows and the
// lane group that `reader` reads; writes what it reads to `tile` where kStoreTile.
template <int kNumRows, bool kStoreTile, typename Reader, typename Store>
HWY_INLINE void MultiplyLaneGroup(const NativePart& part, Reader& reader, uint8_t* tile,
                                  PackedRows weights, const Store& store) {
  Reader next = reader;  // in registers
  QuadSums<kNumRows> high;
  QuadSums<kNumRows> low;
  uint64_t top_quads = 0;
  KVATTEND_UNROLL
  for (int r = 0; r < kNumRows; ++r) {
    top_quads |= weights.top_quads[r];
    KVATTEND_UNROLL
    for (int v = 0; v < kQuadVectors; ++v) {
      high[r][v] = Int32Vector{};
      low[r][v] = Int32Vector{} - weights.sum[r] * part.level_offset;
    }
  }
  const int num_reduced = weights.num_reduced;
  const int row_bytes = 3 * num_reduced;
  for (int i = 0; i < num_reduced; i += 4) {
    const __m512i first = next.Next();
    const __m512i x[kQuadVectors] = {first, next.Next()};
    if constexpr (kStoreTile) {
      KVATTEND_UNROLL
      for (int v = 0; v < kQuadVectors; ++v) _mm512_store_si512(tile + 32 * i + 64 * v, x[v]);
    }
    MultiplyQuads<kNumRows>(x, weights.bytes + i, row_bytes, high);
    MultiplyQuads<kNumRows>(x, weights.bytes + num_reduced + i, row_bytes, low);
  }
  reader = next;
  __m512 products[kNumRows][kQuadVectors];
  KVATTEND_UNROLL
  for (int r = 0; r < kNumRows; ++r) {
    const __m512 bias = _mm512_set1_ps(static_cast<float>(weights.sum[r]) * part.level_bias);
    KVATTEND_UNROLL
    for (int v = 0; v < kQuadVectors; ++v) {
      const Int32Vector sum = (high[r][v] << 8) + low[r][v];
      products[r][v] = _mm512_add_ps(_mm512_cvtepi32_ps((__m512i)sum), bias);
    }
  }
  if (top_quads != 0) {
    QuadSums<kNumRows> top;
    KVATTEND_UNROLL
    for (int r = 0; r < kNumRows; ++r) {
      for (Int32Vector& sum : top[r]) {
        sum = Int32Vector{} - weights.top_sum[r] * part.level_offset;
      }
    }
    for (; top_quads != 0; top_quads &= top_quads - 1) {
      const int i = 4 * std::countr_zero(top_quads);
      const __m512i x[kQuadVectors] = {_mm512_load_si512(tile + 32 * i),
                                       _mm512_load_si512(tile + 32 * i + 64)};
      MultiplyQuads<kNumRows>(x, weights.bytes + 2 * num_reduced + i, row_bytes, top);
    }
    KVATTEND_UNROLL
    for (int r = 0; r < kNumRows; ++r) {
      const float bias = static_cast<float>(weights.top_sum[r]) * part.level_bias;
      KVATTEND_UNROLL
      for (int v = 0; v < kQuadVectors; ++v) {
        const __m512 sum =
            _mm512_add_ps(_mm512_cvtepi32_ps((__m512i)top[r][v]), _mm512_set1_ps(bias));
        products[r][v] = _mm512_fmadd_ps(sum, _mm512_set1_ps(65536.0f), products[r][v]);
      }
    }
  }
  KVATTEND_UNROLL
  for (int r = 0; r < kNumRows; ++r) {
    KVATTEND_UNROLL
    for (int v = 0; v < kQuadVectors; ++v) store(r, v, products[r][v]);
  }
}

// Keys: sums[row][lane] = product * factor * unit[row] * scales[lane].
struct StoreScores {
  HWY_INLINE void operator()(int r, int v, __m512 product) const {
    const __m512 scale = _mm512_load_ps(scales + 16 * v);
    _mm512_storeu_ps(sums.From(r, 16 * v).data, _mm512_mul_ps(_mm512_mul_ps(product, scale),
                                                              _mm512_set1_ps(unit[r] * factor)));
  }
  StoreScores From(int row, int lane) const {
    return {sums.From(row, lane), unit + row, scales + lane, factor};
  }
  Rows sums;
  const float* unit;
  const float* scales;
  float factor;
};

// Values: sums[row][lane] += product * unit[row].
struct AddOutputs {
  HWY_INLINE void operator()(int r, int v, __m512 product) const {
    float* const sum = sums.From(r, 16 * v).data;
    _mm512_storeu_ps(sum, _mm512_fmadd_ps(product, _mm512_set1_ps(unit[r]), _mm512_loadu_ps(sum)));
  }
  AddOutputs From(int row, int lane) const { return {sums.From(row, lane), unit + row}; }
  Rows sums;
  const float* unit;
};

constexpr int kQuadRows = 4;  // whose sums, with their weights, fit in registers

// The same for 1 to kQuadRows rows. Not a lambda in the caller: clang gives those HWY_ATTR's
// instruction set, which lacks VNNI.
template <bool kStoreTile, typename Reader, typename Store>
HWY_INLINE void MultiplyLaneGroup(int num_rows, const NativePart& part, Reader& reader,
                                  uint8_t* tile, PackedRows weights, const Store& store) {
  if (num_rows == 1) MultiplyLaneGroup<1, kStoreTile>(part, reader, tile, weights, store);
  if (num_rows == 2) MultiplyLaneGroup<2, kStoreTile>(part, reader, tile, weights, store);
  if (num_rows == 3) MultiplyLaneGroup<3, kStoreTile>(part, reader, tile, weights, store);
  if (num_rows == 4) MultiplyLaneGroup<4, kStoreTile>(part, reader, tile, weights, store);
}

template <typename Reader, typename Store>
HWY_NOINLINE void MultiplyWith(const NativePart& part, Reader reader, uint8_t* tile, int num_rows,
                               PackedRows weights, const Store& store) {
  const int group_bytes = part.num_reduced() * part.group_lanes();
  // The first rows while the elements come in, the others from the tile.
  for (int lane = 0; lane < part.num_lanes(); lane += part.group_lanes(), tile += group_bytes) {
    MultiplyLaneGroup<true>(std::min(num_rows, kQuadRows), part, reader, tile, weights,
                            store.From(0, lane));
    for (int r = kQuadRows; r < num_rows; r += kQuadRows) {
      TileReader again(tile);
      MultiplyLaneGroup<false>(std::min(num_rows - r, kQuadRows), part, again, tile,
                               weights.From(r), store.From(r, lane));
    }
  }
}

// Gives store(row, vector, products) the products of a part's levels with num_rows rows of weights,
// in units of the rows. A row's products do not depend on the others.
template <typename Store>
void MultiplyQuadPart(const NativePart& part, const uint8_t* data, AttentionScratch& scratch,
                      int num_rows, PackedRows weights, const Store& store) {
  uint8_t* const tile = scratch.tile;
  if (part.is_sparse()) {
    const SparseReader reader(part, data, scratch.codes);
    MultiplyWith(part, reader, tile, num_rows, weights, store);
  } else if (part.bits == 2) {
    MultiplyWith(part, DenseReader<2>(part, data), tile, num_rows, weights, store);
  } else if (part.bits == 4) {
    MultiplyWith(part, DenseReader<4>(part, data), tile, num_rows, weights, store);
  } else {
    MultiplyWith(part, DenseReader<8>(part, data), tile, num_rows, weights, store);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvattend
HWY_POP_ATTRIBUTES

#else
#define KVATTEND_AVX3_DL 0
#endif  // AVX3_DL

#endif  // KVATTEND_KERNELS_CPU_AVX3_DL_INL_H_
