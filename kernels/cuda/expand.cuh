// Expanding coded tiles into operands of the tensor cores.
//
// An expander walks one part of a block in shared memory, tile after tile, and yields the A
// operands of a lane (gpu_block_layout.h). Values come in units of the format's `unit` times the
// token's scale, and 0 where an element was not kept. All lanes of a warp work together.
#ifndef KVATTEND_KERNELS_CUDA_EXPAND_CUH_
#define KVATTEND_KERNELS_CUDA_EXPAND_CUH_

#include <cstdint>

#include "kernels/cuda/gpu_block_layout.h"
#include "kernels/cuda/ptx.cuh"

namespace kvattend::cuda {

// How the codes of a part are stored, as far as code must differ.
template <int kBitsOfCode, bool kIsSparse>
struct PartFormat {
  static constexpr int kBits = kBitsOfCode;
  static constexpr bool kSparse = kIsSparse;
  // 8-bit levels, u - 127.5, do not fit int8: the tiles hold u - 128, and the halves that are
  // missing are the sum of the other operand over what is present.
  static constexpr bool kNeedsPresence = kBits == 8;
};

// Selectors that place kept codes in 8 slots: 256 entries, copied so that look-ups of a warp do not
// collide in a bank of shared memory. For 8-byte entries 16 copies do; beside the large parts of
// 16-bit codes there is room for 8.
//
// Entry m is for the mask byte m, and for two words of 4 bytes each that hold the codes in order of
// rank: even ranks in the first and odd ones in the second where kInterleaved, else ranks 0 .. 3
// and 4 .. 7. Permute(first, second, entry.x) gives slots 0 .. 3 and Permute(first, second,
// entry.y) slots 4 .. 7. A slot without a code takes the replicated sign of the last byte, of rank
// 7: whoever uses the table must have made that byte positive unless all 8 slots have codes. For
// that, bit 31 of entry.x is set if they all have, bit 30 of entry.y if not.
template <bool kInterleaved>
struct SelectorTable {
  static constexpr int kCopies = kInterleaved ? 16 : 8;
  static constexpr int kEntryBytes = kCopies * 8;
  static constexpr int kBytes = 256 * kEntryBytes;
};

template <bool kInterleaved>
__device__ __forceinline__ uint2 SelectorOf(uint32_t mask) {
  uint32_t entry[2] = {mask == 0xff ? 1u << 31 : 0, mask == 0xff ? 0 : 1u << 30};
#pragma unroll
  for (int slot = 0; slot < 8; ++slot) {
    const uint32_t rank = __popc(mask & ((1u << slot) - 1));
    const uint32_t index = kInterleaved ? (rank & 1) * 4 + rank / 2 : rank;
    entry[slot / 4] |= ((mask >> slot & 1) != 0 ? index : 0xf) << (4 * (slot % 4));
  }
  return make_uint2(entry[0], entry[1]);
}

// Fills a table; the caller synchronises the thread block.
template <bool kInterleaved>
__device__ __forceinline__ void FillSelectors(void* table) {
  constexpr int kPairs = SelectorTable<kInterleaved>::kCopies / 2;
  for (int i = threadIdx.x; i < 256; i += blockDim.x) {
    const uint2 entry = SelectorOf<kInterleaved>(i);
    uint4* copies = static_cast<uint4*>(table) + kPairs * i;
    // Neighbouring threads begin at different copies: in different banks.
#pragma unroll
    for (int c = 0; c < kPairs; ++c) {
      copies[(c + i) % kPairs] = make_uint4(entry.x, entry.y, entry.x, entry.y);
    }
  }
}

// The four levels of 2-bit codes as bytes, code 0 lowest: {1, r, -1, -r} / unit.
struct Levels {
  uint32_t bytes = 0;
  // What a step of a tile's bytes is worth in scales. Of 4 bits: 1 / 16 always.
  float unit = 0.0f;
};

template <class Format, int kHeadDim>
class Expander;

// ---- Dense codes of 2, 4 and 8 bits.

template <int kBits, int kHeadDim>
class Expander<PartFormat<kBits, false>, kHeadDim> {
  static_assert(kBits <= 8);

 public:
  __device__ __forceinline__ Expander(const uint8_t* part, const GpuPartLayout& layout,
                                      const void* selectors, uint32_t levels, int lane)
      : codes_(part + lane * 16), levels_(levels) {}

  // Tiles are asked for in ascending order; calls are unrolled, so `tile` is a constant.
  __device__ __forceinline__ void Tile(int tile, uint32_t (&a)[4]) {
    constexpr int kTilesAVector = 16 / (2 * kBits);
    const int within = tile % kTilesAVector;
    if (within == 0) {
      vector_ = *reinterpret_cast<const uint4*>(codes_ + tile / kTilesAVector * kLanes * 16);
    }
    const uint32_t words[4] = {vector_.x, vector_.y, vector_.z, vector_.w};
    if constexpr (kBits == 2) {
      const uint32_t low = words[within] & 0x33333333;
      const uint32_t high = (words[within] >> 2) & 0x33333333;
      a[0] = Permute(levels_, levels_, low);
      a[1] = Permute(levels_, levels_, ShiftRight<16>(low));
      a[2] = Permute(levels_, levels_, high);
      a[3] = Permute(levels_, levels_, ShiftRight<16>(high));
    } else if constexpr (kBits == 4) {
      // (u - 8) * 16 + 8 as int8: 16 levels.
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const uint32_t word = words[2 * within + i];
        a[2 * i] = ((word << 4) & 0xf0f0f0f0) | 0x08080808;
        a[2 * i + 1] = (word & 0xf0f0f0f0) | 0x08080808;
      }
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) a[i] = words[i];
    }
  }

  __device__ __forceinline__ void Presence(uint32_t (&a)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = 0x01010101;
  }

 private:
  const uint8_t* codes_;
  uint32_t levels_;
  uint4 vector_;
};

// ---- Sparse codes.

// The masks of a lane and its place in the stream of codes.
template <int kHeadDim>
class SparseCursor {
 public:
  __device__ __forceinline__ SparseCursor(const uint8_t* part, int lane) {
    const uint4* masks = reinterpret_cast<const uint4*>(part) + lane;
    int count = 0;
#pragma unroll
    for (int i = 0; i < kWords / 4; ++i) {
      const uint4 m = masks[i * kLanes];
      masks_[4 * i] = m.x;
      masks_[4 * i + 1] = m.y;
      masks_[4 * i + 2] = m.z;
      masks_[4 * i + 3] = m.w;
      count += __popc(m.x) + __popc(m.y) + __popc(m.z) + __popc(m.w);
    }
    first_code_ = -count;
#pragma unroll
    for (int distance = 1; distance < kLanes; distance *= 2) {
      const int other = __shfl_up_sync(~0u, count, distance);
      if (lane >= distance) count += other;
    }
    first_code_ += count;
  }

  // Codes of the lanes before this one.
  __device__ __forceinline__ int first_code() const { return first_code_; }
  // The mask of a row (0: g, 1: g + 8) of a tile.
  __device__ __forceinline__ uint32_t RowMask(int tile, int row) const {
    return Permute(masks_[tile / 2], 0, 0x4440 + tile % 2 * 2 + row);
  }
  // Both of them, the first in the low byte.
  __device__ __forceinline__ uint32_t TileMask(int tile) const {
    return tile % 2 == 0 ? masks_[tile / 2] & 0xffff : masks_[tile / 2] >> 16;
  }

 private:
  static constexpr int kWords = kHeadDim / 16;
  uint32_t masks_[kWords];
  int first_code_;
};

template <int kBits, int kHeadDim>
class Expander<PartFormat<kBits, true>, kHeadDim> {
 public:
  __device__ __forceinline__ Expander(const uint8_t* part, const GpuPartLayout& layout,
                                      const void* selectors, uint32_t levels, int lane)
      : cursor_(part, lane),
        codes_(SharedAddress(part) + layout.code_offset),
        selectors_(SharedAddress(selectors) + lane % Table::kCopies * 8),
        levels_(levels),
        bit_(static_cast<uint32_t>(cursor_.first_code() * kBits +
                                   lane / kLanesAGap * layout.gap_bits())) {}

  __device__ __forceinline__ void Tile(int tile, uint32_t (&a)[4]) {
    const uint32_t mask0 = cursor_.RowMask(tile, 0);
    const uint32_t mask1 = cursor_.RowMask(tile, 1);
    const uint32_t bits0 = kBits * __popc(mask0);
    const uint32_t bits1 = kBits * __popc(mask1);
    if constexpr (kBits == 8) {
      Row(Window(bit_), Window(bit_ + 32), mask0, a[0], a[2], present_[0], present_[2]);
      const uint32_t bit = bit_ + bits0;
      Row(Window(bit), Window(bit + 32), mask1, a[1], a[3], present_[1], present_[3]);
    } else if constexpr (kBits == 4) {
      const uint32_t address = WordAddress(bit_);
      const uint32_t word1 = LoadShared<4>(address);
      const uint32_t first = __funnelshift_r(LoadShared<0>(address), word1, bit_);
      const uint32_t second = __funnelshift_r(word1, LoadShared<8>(address), bit_);
      Row(first, mask0, a[0], a[2]);
      Row(__funnelshift_rc(first, second, bits0), mask1, a[1], a[3]);
    } else {
      const uint32_t window = Window(bit_);
      Row(window, mask0, a[0], a[2]);
      Row(window >> bits0, mask1, a[1], a[3]);
    }
    bit_ += bits0 + bits1;
  }

  // Of 8 bits: ones where the tile that was expanded last has codes.
  __device__ __forceinline__ void Presence(uint32_t (&a)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = present_[i];
  }

 private:
  using Table = SelectorTable<true>;

  __device__ __forceinline__ uint32_t WordAddress(uint32_t bit) const {
    return MultiplyAdd(ShiftRight<5>(bit), 4, codes_);
  }
  // The 32 bits of the stream from `bit` on.
  __device__ __forceinline__ uint32_t Window(uint32_t bit) const {
    const uint32_t address = WordAddress(bit);
    return __funnelshift_r(LoadShared<0>(address), LoadShared<4>(address), bit);
  }

  // Places up to 8 codes that begin at bit 0 of `window`: slots 0 .. 3 and slots 4 .. 7.
  __device__ __forceinline__ void Row(uint32_t window, uint32_t mask, uint32_t& low,
                                      uint32_t& high) const {
    const uint2 selector = LoadSelectors(mask * Table::kEntryBytes + selectors_);
    uint32_t even;
    uint32_t odd;
    if constexpr (kBits == 2) {
      even = Permute(levels_, levels_, window & 0x3333);
      // Bit 30 of the entry makes rank 7 a zero.
      odd = Permute(levels_, 0, ((window >> 2) & 0x3333) | ShiftRight<16>(selector.y));
    } else {
      // (u - 8) * 16 + 8 as int8: 16 levels. Without bit 31, the sign of rank 7 is cleared.
      even = ((window << 4) & 0xf0f0f0f0) | 0x08080808;
      odd = ((window & (selector.x | 0x7fffffff)) & 0xf0f0f0f0) | 0x08080808;
    }
    low = Permute(even, odd, selector.x);
    high = Permute(even, odd, selector.y);
  }

  // The same for 8-bit codes, 4 in each window.
  __device__ __forceinline__ void Row(uint32_t window0, uint32_t window1, uint32_t mask,
                                      uint32_t& low, uint32_t& high, uint32_t& low_present,
                                      uint32_t& high_present) const {
    const uint2 selector = LoadSelectors(mask * Table::kEntryBytes + selectors_);
    const uint32_t even = Permute(window0, window1, 0x6420);
    const uint32_t odd = Permute(window0, window1, 0x7531);
    low_present = Permute(0x01010101, 0x01010101, selector.x);
    high_present = Permute(0x01010101, 0x01010101, selector.y);
    low = Permute(even, odd, selector.x) & (low_present * 0xff);
    high = Permute(even, odd, selector.y) & (high_present * 0xff);
  }

  SparseCursor<kHeadDim> cursor_;
  uint32_t codes_;
  uint32_t selectors_;
  uint32_t levels_;
  uint32_t bit_;
  uint32_t present_[4];
};

// ---- float16: a tile is two m16n8k16 operands, slots 0 .. 3 and 4 .. 7. Row r's slots come as
// four words of two halves.

// Where a tile lies whole: in a dense part, or among the keys of a page.
__device__ __forceinline__ void LoadHalfRows(const uint4* tile, int lane, uint32_t (&rows)[2][4]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const uint4 row = tile[r * kLanes + lane];
    rows[r][0] = row.x;
    rows[r][1] = row.y;
    rows[r][2] = row.z;
    rows[r][3] = row.w;
  }
}

template <int kHeadDim>
class Expander<PartFormat<16, false>, kHeadDim> {
 public:
  __device__ __forceinline__ Expander(const uint8_t* part, const GpuPartLayout& layout,
                                      const void* selectors, uint32_t levels, int lane)
      : tiles_(reinterpret_cast<const uint4*>(part)), lane_(lane) {}

  __device__ __forceinline__ void Tile(int tile, uint32_t (&rows)[2][4]) {
    LoadHalfRows(tiles_ + tile * kTileRows * kLanes, lane_, rows);
  }

 private:
  const uint4* tiles_;
  int lane_;
};

template <int kHeadDim>
class Expander<PartFormat<16, true>, kHeadDim> {
 public:
  __device__ __forceinline__ Expander(const uint8_t* part, const GpuPartLayout& layout,
                                      const void* selectors, uint32_t levels, int lane)
      : cursor_(part, lane),
        codes_(SharedAddress(part) + layout.code_offset),
        selectors_(SharedAddress(selectors) + lane % Table::kCopies * 8),
        index_(static_cast<uint32_t>(cursor_.first_code() +
                                     lane / kLanesAGap * layout.gap_bits() / 16)) {}

  __device__ __forceinline__ void Tile(int tile, uint32_t (&rows)[2][4]) {
    Row(cursor_.RowMask(tile, 0), rows[0]);
    Row(cursor_.RowMask(tile, 1), rows[1]);
  }

 private:
  using Table = SelectorTable<false>;

  // Low and high bytes go to their slots apart and meet there.
  __device__ __forceinline__ void Row(uint32_t mask, uint32_t (&row)[4]) {
    const uint2 selector = LoadSelectors(mask * Table::kEntryBytes + selectors_);
    const uint32_t address = MultiplyAdd(ShiftRight<2>(index_), 8, codes_);
    const uint32_t offset = index_ % 4;
    const uint32_t end = offset + __popc(mask);
    index_ += end - offset;
    // Fewer lanes that load mean fewer bank conflicts.
    uint2 units[3] = {LoadSharedPair<0>(address), {0, 0}, {0, 0}};
    if (end > 4) units[1] = LoadSharedPair<8>(address);
    if (end > 8) units[2] = LoadSharedPair<16>(address);
    const uint32_t positive = selector.x | 0x7fffffff;
    const uint32_t low0 = __funnelshift_r(units[0].x, units[1].x, 8 * offset);
    const uint32_t low1 = __funnelshift_r(units[1].x, units[2].x, 8 * offset) & positive;
    const uint32_t high0 = __funnelshift_r(units[0].y, units[1].y, 8 * offset);
    const uint32_t high1 = __funnelshift_r(units[1].y, units[2].y, 8 * offset) & positive;
    const uint32_t low_bytes[2] = {Permute(low0, low1, selector.x),
                                   Permute(low0, low1, selector.y)};
    const uint32_t high_bytes[2] = {Permute(high0, high1, selector.x),
                                    Permute(high0, high1, selector.y)};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      row[2 * i] = Permute(low_bytes[i], high_bytes[i], 0x5140);
      row[2 * i + 1] = Permute(low_bytes[i], high_bytes[i], 0x7362);
    }
  }

  SparseCursor<kHeadDim> cursor_;
  uint32_t codes_;
  uint32_t selectors_;
  uint32_t index_;
};

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_EXPAND_CUH_
