// Integer products with AVX-512's VNNI, which Highway has no name for. Compiled once for each
// instruction set; empty where KVATTEND_AVX3_DL is 0.
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
#include "kernels/cpu/avx3_dl_read-inl.h"
#include "kernels/cpu/multiply-inl.h"
#include "kernels/cpu/native_block.h"

#if KVATTEND_AVX3_DL

// HWY_BEFORE_NAMESPACE() of Highway 1.0.3 has all but VNNI in 512 bits. What is called from other
// files must not be forced inline: their functions lack it.
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512vnni")
namespace kvattend {
namespace HWY_NAMESPACE {

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

// Lane r: the largest magnitude of row r's weights times multipliers, for up to 16 rows.
template <int kReduced>
HWY_INLINE __m512 FindLargest(ConstRows weights, const float* multipliers, int num_rows) {
  __m512 largest = _mm512_setzero_ps();
  for (int r = 0; r < num_rows; ++r) {
    const float* const row = weights.From(r, 0).data;
    __m512 max = _mm512_setzero_ps();
    for (int i = 0; i < kReduced; i += 16) {
      const __m512 x = _mm512_mul_ps(_mm512_loadu_ps(row + i), _mm512_load_ps(multipliers + i));
      max = _mm512_max_ps(max, _mm512_abs_ps(x));
    }
    // Not through memory: a vector load after the rows' scalar stores would wait for them all.
    largest = _mm512_mask_mov_ps(largest, static_cast<__mmask16>(1u << r),
                                 _mm512_set1_ps(_mm512_reduce_max_ps(max)));
  }
  return largest;
}

// Units for the largest magnitudes: the largest weight is 32639 of them, or more where unit_limit
// asks for a smaller unit. 32639 = 127 * 257 is the most that the planes high and low hold,
// 127 * 65793 with top.
HWY_INLINE __m512 ChooseUnits(__m512 largest, float unit_limit) {
  constexpr float kMaxWeight = 127.0f * 257.0f;
  // Less a little: near it, float32's rounding of unit and inverse moves the largest by up to 2.
  constexpr float kMaxTopWeight = 127.0f * 65793.0f - 4.0f;
  const __m512 coarse = _mm512_min_ps(_mm512_mul_ps(largest, _mm512_set1_ps(1.0f / kMaxWeight)),
                                      _mm512_set1_ps(unit_limit));
  const __m512 fine = _mm512_mul_ps(largest, _mm512_set1_ps(1.0f / kMaxTopWeight));
  const __m512 units = _mm512_max_ps(coarse, fine);
  // The inverse of a subnormal could overflow; such weights are nothing beside any score.
  const __mmask16 is_normal =
      _mm512_cmp_ps_mask(units, _mm512_set1_ps(std::numeric_limits<float>::min()), _CMP_GE_OQ);
  return _mm512_maskz_mov_ps(is_normal, units);
}

// Rounds the products of weights and multipliers to integers times the row's unit.
template <int kReduced>
HWY_INLINE void PackRow(const float* weights, const float* multipliers, float inverse,
                        PackedRows row) {
  const __m512 scale = _mm512_set1_ps(inverse);
  const __m512i ones = _mm512_set1_epi8(1);
  __m512i high_sum = _mm512_setzero_si512();
  __m512i low_sum = _mm512_setzero_si512();
  __m512i top_sum = _mm512_setzero_si512();
  uint64_t top_quads = 0;
  KVATTEND_UNROLL
  for (int i = 0; i < kReduced; i += 64) {
    __m512i biased[4];
    KVATTEND_UNROLL
    for (int j = 0; j < 4; ++j) {
      const int at = i + 16 * j;
      const __m512 x =
          _mm512_mul_ps(_mm512_loadu_ps(weights + at), _mm512_load_ps(multipliers + at));
      const __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps(x, scale));
      biased[j] = _mm512_add_epi32(rounded, _mm512_set1_epi32(0x8080));
    }
    const Planes planes(biased);
    _mm512_store_si512(row.bytes + i, planes.high);
    _mm512_store_si512(row.bytes + kReduced + i, planes.low);
    _mm512_store_si512(row.bytes + 2 * kReduced + i, planes.top);
    high_sum = _mm512_dpbusd_epi32(high_sum, ones, planes.high);
    low_sum = _mm512_dpbusd_epi32(low_sum, ones, planes.low);
    top_sum = _mm512_dpbusd_epi32(top_sum, ones, planes.top);
    top_quads |= uint64_t{_mm512_test_epi32_mask(planes.top, planes.top)} << (i / 4);
  }
  *row.sum = _mm512_reduce_add_epi32(_mm512_add_epi32(_mm512_slli_epi32(high_sum, 8), low_sum));
  *row.top_sum = top_quads == 0 ? 0 : _mm512_reduce_add_epi32(top_sum);
  *row.top_quads = top_quads;
}

template <int kReduced>
HWY_INLINE void PackRowsOf(ConstRows weights, const float* multipliers, float unit_limit,
                           int num_rows, PackedRows rows) {
  for (int first = 0; first < num_rows; first += 16) {
    const int count = std::min(num_rows - first, 16);
    const ConstRows group = weights.From(first, 0);
    const __m512 units = ChooseUnits(FindLargest<kReduced>(group, multipliers, count), unit_limit);
    const __mmask16 is_zero = _mm512_cmp_ps_mask(units, _mm512_setzero_ps(), _CMP_EQ_OQ);
    alignas(64) float inverse[16];
    _mm512_store_ps(inverse,
                    _mm512_mask_div_ps(units, _knot_mask16(is_zero), _mm512_set1_ps(1.0f), units));
    _mm512_store_ps(rows.unit + first, units);
    for (int r = 0; r < count; ++r) {
      PackRow<kReduced>(group.From(r, 0).data, multipliers, inverse[r], rows.From(first + r));
    }
  }
}

// `multipliers` has as many elements as a row. The largest products are found for all rows first:
// one row after the other would wait for a long chain of dependent instructions each time.
inline void PackRows(ConstRows weights, const float* multipliers, float unit_limit, int num_rows,
                     PackedRows rows) {
  if (rows.num_reduced == 64) PackRowsOf<64>(weights, multipliers, unit_limit, num_rows, rows);
  if (rows.num_reduced == 128) PackRowsOf<128>(weights, multipliers, unit_limit, num_rows, rows);
  if (rows.num_reduced == 256) PackRowsOf<256>(weights, multipliers, unit_limit, num_rows, rows);
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

// Reads elements for the first time: keeps them in the tile for further rows, and fetches the part
// that comes next on the way, evenly, as more at a time than the core has buffers for would stop
// it.
template <typename Reader>
class FirstReader {
 public:
  FirstReader(const Reader& reader, uint8_t* tile, const NativePart& part, const uint8_t* upcoming)
      : reader_(reader),
        next_(tile),
        // Somewhere harmless where nothing comes next.
        upcoming_(upcoming == nullptr ? tile : upcoming),
        step_(upcoming == nullptr ? 0 : part.layout.size_bytes / part.head_dim + 1) {}
  HWY_INLINE __m512i Next() {
    const __m512i group = reader_.Next();
    _mm512_store_si512(next_, group);
    next_ += 64;
    _mm_prefetch(reinterpret_cast<const char*>(upcoming_), _MM_HINT_T0);
    upcoming_ += step_;
    return group;
  }

 private:
  Reader reader_;
  uint8_t* next_;
  const uint8_t* upcoming_;
  size_t step_;
};

// Gives store(row, vector, products) the products, in units of the row, of kNumRows rows and the
// lane group that `reader` reads, which is or comes to be in `tile`.
template <int kNumRows, typename Reader, typename Store>
HWY_INLINE void MultiplyLaneGroup(const NativePart& part, Reader& reader, const uint8_t* tile,
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
template <typename Reader, typename Store>
HWY_INLINE void MultiplyLaneGroup(int num_rows, const NativePart& part, Reader& reader,
                                  const uint8_t* tile, PackedRows weights, const Store& store) {
  if (num_rows == 1) MultiplyLaneGroup<1>(part, reader, tile, weights, store);
  if (num_rows == 2) MultiplyLaneGroup<2>(part, reader, tile, weights, store);
  if (num_rows == 3) MultiplyLaneGroup<3>(part, reader, tile, weights, store);
  if (num_rows == 4) MultiplyLaneGroup<4>(part, reader, tile, weights, store);
}

template <typename Reader, typename Store>
HWY_NOINLINE void MultiplyWith(const NativePart& part, const Reader& reader,
                               const uint8_t* upcoming, uint8_t* tile, int num_rows,
                               PackedRows weights, const Store& store) {
  FirstReader<Reader> first(reader, tile, part, upcoming);
  const int group_bytes = part.num_reduced() * part.group_lanes();
  for (int lane = 0; lane < part.num_lanes(); lane += part.group_lanes(), tile += group_bytes) {
    MultiplyLaneGroup(std::min(num_rows, kQuadRows), part, first, tile, weights,
                      store.From(0, lane));
    for (int r = kQuadRows; r < num_rows; r += kQuadRows) {
      TileReader again(tile);
      MultiplyLaneGroup(std::min(num_rows - r, kQuadRows), part, again, tile, weights.From(r),
                        store.From(r, lane));
    }
  }
}

// Gives store(row, vector, products) the products of a part's levels with num_rows rows of weights,
// in units of the rows. A row's products do not depend on the others. `upcoming` is a part of the
// same kind that is wanted next, or null.
template <typename Store>
void MultiplyQuadPart(const NativePart& part, const uint8_t* data, const uint8_t* upcoming,
                      AttentionScratch& scratch, int num_rows, PackedRows weights,
                      const Store& store) {
  const auto multiply = [&](const auto& reader) {
    MultiplyWith(part, reader, upcoming, scratch.tile, num_rows, weights, store);
  };
  if (part.is_sparse()) return multiply(SparseReader(part, data, scratch.codes));
  if (part.bits == 2) return multiply(DenseReader<2>(part, data));
  if (part.bits == 4) return multiply(DenseReader<4>(part, data));
  multiply(DenseReader<8>(part, data));
}

}  // namespace HWY_NAMESPACE
}  // namespace kvattend
HWY_POP_ATTRIBUTES

#endif  // KVATTEND_AVX3_DL

#endif  // KVATTEND_KERNELS_CPU_AVX3_DL_INL_H_
