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
template <typename F>
HWY_INLINE __m512i BytesFrom(F f) {
  alignas(64) uint8_t bytes[64];
  for (int i = 0; i < 64; ++i) bytes[i] = static_cast<uint8_t>(f(i));
  return _mm512_load_si512(bytes);
}

// The stored bytes (see NativePart) of a group of 64 codes: one shift for each quarter (2 bits) or
// half (4 bits) of the vector, then what the format makes of the lowest bits.
template <int kBits>
class GroupUnpacker;

template <>
class GroupUnpacker<2> {
 public:
  explicit GroupUnpacker(const NativePart& part)
      // Byte i: 8 bits from bit 8 * (i % 8) + 2 * (i / 16) on of its 64; the lowest two count.
      : shifts_(BytesFrom([](int i) { return 8 * (i % 8) + 2 * (i / 16); })),
        levels_(BytesFrom([&part](int i) { return part.levels[i % 4]; })) {}
  HWY_INLINE __m512i operator()(const uint8_t* group) const {
    const __m512i packed =
        _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(group)));
    return _mm512_permutexvar_epi8(_mm512_multishift_epi64_epi8(shifts_, packed), levels_);
  }

 private:
  __m512i shifts_;
  __m512i levels_;
};

template <>
class GroupUnpacker<4> {
 public:
  explicit GroupUnpacker(const NativePart& part)
      // One bit before the code, so that it comes out doubled.
      : shifts_(BytesFrom([](int i) { return (8 * (i % 8) + 4 * (i / 32) + 63) % 64; })) {}
  HWY_INLINE __m512i operator()(const uint8_t* group) const {
    const __m512i packed =
        _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(group)));
    return _mm512_and_si512(_mm512_multishift_epi64_epi8(shifts_, packed), _mm512_set1_epi8(30));
  }

 private:
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

// A part in quad order to scratch.tile.
inline void ExpandTile(const NativePart& part, const uint8_t* data, AttentionScratch& scratch) {
  uint8_t* const codes = part.is_sparse() ? scratch.codes : scratch.tile;
  if (part.bits == 2) UnpackGroups<2>(part, data, codes);
  if (part.bits == 4) UnpackGroups<4>(part, data, codes);
  if (part.bits == 8) UnpackGroups<8>(part, data, codes);
  if (!part.is_sparse()) return;
  const __m512i pruned = _mm512_set1_epi8(static_cast<char>(part.level_offset));
  const uint8_t* const bitmaps = data + part.layout.bitmap_offset;
  const uint8_t* next = codes;
  for (int w = 0; w < part.head_dim; ++w) {
    uint64_t word;
    std::memcpy(&word, bitmaps + 8 * w, 8);
    _mm512_store_si512(scratch.tile + 64 * w, _mm512_mask_expand_epi8(pruned, _cvtu64_mask64(word),
                                                                      _mm512_loadu_si512(next)));
    next += std::popcount(word);
  }
}

// Kept elements of the bitmap words first_word .. last_word - 1 of a part in plain order; returns
// the index of the code after theirs. Reads nothing past the codes: the expanding loads touch only
// what they need.
inline int ExpandSparseWords(const NativePart& part, const uint8_t* data, int first_word,
                             int last_word, int next_code, float* floats) {
  const uint8_t* const bitmaps = data + part.layout.bitmap_offset;
  const uint8_t* const codes = data + part.layout.code_offset;
  const __m512 bias = _mm512_set1_ps(part.level_bias);
  for (int w = first_word; w < last_word; ++w) {
    for (int quarter = 0; quarter < 4; ++quarter, floats += 16) {
      uint16_t word;
      std::memcpy(&word, bitmaps + 8 * w + 2 * quarter, 2);
      const __mmask16 mask = _cvtu32_mask16(word);
      if (part.bits == 8) {
        const __m128i bytes = _mm_maskz_expandloadu_epi8(mask, codes + next_code);
        const __m512 code = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
        _mm512_store_ps(floats, _mm512_maskz_add_ps(mask, code, bias));
      } else {
        const __m256i halves = _mm256_maskz_expandloadu_epi16(mask, codes + 2 * next_code);
        _mm512_store_ps(floats, _mm512_cvtph_ps(halves));
      }
      next_code += std::popcount(word);
    }
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
    const __m512i even_words = WordIndices(0);
    const __m512i odd_words = WordIndices(1);
    const __m512i even_bytes = BytesFrom([](int i) { return 2 * i; });
    const __m512i odd_bytes = BytesFrom([](int i) { return 2 * i + 1; });
    const __m512i a = _mm512_permutex2var_epi16(biased[0], even_words, biased[1]);
    const __m512i b = _mm512_permutex2var_epi16(biased[2], even_words, biased[3]);
    const __m512i a_top = _mm512_permutex2var_epi16(biased[0], odd_words, biased[1]);
    const __m512i b_top = _mm512_permutex2var_epi16(biased[2], odd_words, biased[3]);
    const __m512i sign = _mm512_set1_epi8(static_cast<char>(0x80));
    high = _mm512_xor_si512(_mm512_permutex2var_epi8(a, odd_bytes, b), sign);
    low = _mm512_xor_si512(_mm512_permutex2var_epi8(a, even_bytes, b), sign);
    top = _mm512_permutex2var_epi8(a_top, even_bytes, b_top);
  }
  // Words i, i + 2, ... of two vectors.
  static HWY_INLINE __m512i WordIndices(int first) {
    return BytesFrom([first](int i) { return i % 2 == 0 ? (i + first) % 64 : 0; });
  }
  __m512i high;
  __m512i low;
  __m512i top;
};

// Rounds the products of weights and multipliers to integers times a unit: the largest is 32639 of
// them, or more where unit_limit asks for a smaller unit. 32639 = 127 * 257 is the most that the
// planes high and low hold, 127 * 65793 with top.
template <int kReduced>
HWY_INLINE void PackRow(const float* weights, const float* multipliers, float unit_limit,
                        PackedRows row) {
  constexpr float kMaxWeight = 127.0f * 257.0f;
  constexpr float kMaxTopWeight = 127.0f * 65793.0f;
  constexpr int kVectors = kReduced / 16;
  __m512 x[kVectors];
  __m512 max = _mm512_setzero_ps();
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
  for (int v = 0; v < kVectors; v += 4) {
    __m512i biased[4];
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

// A part in quad order, expanded.
struct Tile {
  Tile From(int lane) const { return {bytes + 4 * lane, num_lanes, part}; }
  const uint8_t* bytes;
  int num_lanes;
  const NativePart* part;
};

// sums[r][v] += tile * a plane, for the groups of four from `quad` on.
template <int kNumRows, int kVectors>
HWY_INLINE void MultiplyPlane(const uint8_t* tile, const int8_t* plane, int row_bytes,
                              __m512i (&sums)[kNumRows][kVectors]) {
  for (int r = 0; r < kNumRows; ++r) {
    int32_t quad;
    std::memcpy(&quad, plane + r * row_bytes, sizeof(quad));
    const __m512i w = _mm512_set1_epi32(quad);
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = _mm512_dpbusd_epi32(sums[r][v], _mm512_load_si512(tile + 64 * v), w);
    }
  }
}

// Gives store(row, vector, products) the products, in units of the row, of kNumRows rows and
// kVectors vectors of lanes, in registers.
template <int kNumRows, int kVectors, typename Store>
HWY_INLINE void MultiplyTileRegisters(const Tile& tile, PackedRows weights, const Store& store) {
  __m512i high[kNumRows][kVectors];
  __m512i low[kNumRows][kVectors];
  uint64_t top_quads = 0;
  for (int r = 0; r < kNumRows; ++r) {
    top_quads |= weights.top_quads[r];
    for (int v = 0; v < kVectors; ++v) {
      high[r][v] = _mm512_setzero_si512();
      low[r][v] = _mm512_set1_epi32(-weights.sum[r] * tile.part->level_offset);
    }
  }
  const int num_reduced = weights.num_reduced;
  const int row_bytes = 3 * num_reduced;
  for (int i = 0; i < num_reduced; i += 4) {
    const uint8_t* const x = tile.bytes + i * tile.num_lanes;
    MultiplyPlane<kNumRows, kVectors>(x, weights.bytes + i, row_bytes, high);
    MultiplyPlane<kNumRows, kVectors>(x, weights.bytes + num_reduced + i, row_bytes, low);
  }
  __m512 products[kNumRows][kVectors];
  for (int r = 0; r < kNumRows; ++r) {
    const __m512 bias = _mm512_set1_ps(static_cast<float>(weights.sum[r]) * tile.part->level_bias);
    for (int v = 0; v < kVectors; ++v) {
      const __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(high[r][v], 8), low[r][v]);
      products[r][v] = _mm512_add_ps(_mm512_cvtepi32_ps(sum), bias);
    }
  }
  if (top_quads != 0) {
    __m512i top[kNumRows][kVectors];
    for (int r = 0; r < kNumRows; ++r) {
      for (int v = 0; v < kVectors; ++v) {
        top[r][v] = _mm512_set1_epi32(-weights.top_sum[r] * tile.part->level_offset);
      }
    }
    for (; top_quads != 0; top_quads &= top_quads - 1) {
      const int i = 4 * std::countr_zero(top_quads);
      MultiplyPlane<kNumRows, kVectors>(tile.bytes + i * tile.num_lanes,
                                        weights.bytes + 2 * num_reduced + i, row_bytes, top);
    }
    for (int r = 0; r < kNumRows; ++r) {
      const float bias = static_cast<float>(weights.top_sum[r]) * tile.part->level_bias;
      for (int v = 0; v < kVectors; ++v) {
        const __m512 sum = _mm512_add_ps(_mm512_cvtepi32_ps(top[r][v]), _mm512_set1_ps(bias));
        products[r][v] = _mm512_fmadd_ps(sum, _mm512_set1_ps(65536.0f), products[r][v]);
      }
    }
  }
  for (int r = 0; r < kNumRows; ++r) {
    for (int v = 0; v < kVectors; ++v) store(r, v, products[r][v]);
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

template <int kNumRows, typename Store>
HWY_INLINE void MultiplyTileRows(const Tile& tile, PackedRows weights, const Store& store) {
  // Two or three accumulators for each row and vector: at most 24 of the 32 registers.
  constexpr int kVectors = kNumRows <= 2 ? 4 : 2;
  for (int lane = 0; lane < tile.num_lanes; lane += 16 * kVectors) {
    MultiplyTileRegisters<kNumRows, kVectors>(tile.From(lane), weights, store.From(0, lane));
  }
}

// Gives store(row, vector, products) the products of the tile's levels with num_rows rows of
// weights, in units of the rows. A row's products do not depend on the others.
template <typename Store>
HWY_NOINLINE void MultiplyTile(const Tile& tile, int num_rows, PackedRows weights,
                               const Store& store) {
  int r = 0;
  for (; r + 4 <= num_rows; r += 4) {
    MultiplyTileRows<4>(tile, weights.From(r), store.From(r, 0));
  }
  if (num_rows - r == 3) MultiplyTileRows<3>(tile, weights.From(r), store.From(r, 0));
  if (num_rows - r == 2) MultiplyTileRows<2>(tile, weights.From(r), store.From(r, 0));
  if (num_rows - r == 1) MultiplyTileRows<1>(tile, weights.From(r), store.From(r, 0));
}

}  // namespace HWY_NAMESPACE
}  // namespace kvattend
HWY_POP_ATTRIBUTES

#else
#define KVATTEND_AVX3_DL 0
#endif  // AVX3_DL

#endif  // KVATTEND_KERNELS_CPU_AVX3_DL_INL_H_
