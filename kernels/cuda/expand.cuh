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

// Selectors that place kept codes, copied often enough that look-ups of a warp do not collide in a
// bank of shared memory.
//
// 8 slots at a time, 16 copies: entry m is for the mask byte m. `even` holds the codes of even rank
// as bytes, `odd` those of odd rank; Permute(even, odd, entry.x) gives slots 0 .. 3 and
// Permute(even, odd, entry.y) slots 4 .. 7. A slot without a code takes the replicated sign of the
// last byte of `odd`, of rank 7: whoever uses the table must have made that byte positive unless
// all 8 slots have codes. For that, bit 31 of entry.y is set if they all have, bit 30 if not. 4
// slots of float16 at a time, 32 copies (second table, of 16 entries): Permute(h0, h1, entry) gives
// slots 0 and 1, with entry >> 16 slots 2 and 3, from four halves in order of rank. A slot without
// a code takes the last half, which then has no taker and must be zero.
inline constexpr int kByteSelectorBytes = 256 * 16 * 8;
inline constexpr int kHalfSelectorBytes = 16 * kLanes * 4;

__device__ __forceinline__ uint2 ByteSelector(uint32_t mask) {
  uint32_t entry[2] = {mask == 0xff ? 1u << 31 : 0, mask == 0xff ? 0 : 1u << 30};
  for (int slot = 0; slot < 8; ++slot) {
    const uint32_t rank = __popc(mask & ((1u << slot) - 1));
    const uint32_t index = (mask >> slot & 1) != 0 ? (rank & 1) * 4 + rank / 2 : 0xf;
    entry[slot / 4] |= index << (4 * (slot % 4));
  }
  return make_uint2(entry[0], entry[1]);
}

__device__ __forceinline__ uint32_t HalfSelector(uint32_t mask) {
  uint32_t entry = 0;
  for (int slot = 0; slot < 4; ++slot) {
    const uint32_t rank = (mask >> slot & 1) != 0 ? __popc(mask & ((1u << slot) - 1)) : 3;
    entry |= ((2 * rank + 1) << 4 | 2 * rank) << (8 * slot);
  }
  return entry;
}

// Fill the tables; the caller synchronises the thread block.
__device__ __forceinline__ void FillByteSelectors(void* table) {
  for (int i = threadIdx.x; i < 256 * 16; i += blockDim.x) {
    static_cast<uint2*>(table)[i] = ByteSelector(i / 16);
  }
}
__device__ __forceinline__ void FillHalfSelectors(void* table) {
  for (int i = threadIdx.x; i < 16 * kLanes; i += blockDim.x) {
    static_cast<uint32_t*>(table)[i] = HalfSelector(i / kLanes);
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
        selectors_(SharedAddress(selectors) + lane % 16 * 8),
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
    const uint2 selector = LoadSelectors(mask * 128 + selectors_);
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
    const uint2 selector = LoadSelectors(mask * 128 + selectors_);
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
        codes_(part + layout.code_offset),
        selectors_(static_cast<const uint32_t*>(selectors) + lane),
        index_(static_cast<uint32_t>(cursor_.first_code() +
                                     lane / kLanesAGap * layout.gap_bits() / 16)) {}

  __device__ __forceinline__ void Tile(int tile, uint32_t (&rows)[2][4]) {
    const uint32_t mask = cursor_.TileMask(tile);
#pragma unroll
    for (int quarter = 0; quarter < 4; ++quarter) {
      const int slot = quarter % 2 * 2;
      Four(mask >> (4 * quarter) & 0xf, rows[quarter / 2][slot], rows[quarter / 2][slot + 1]);
    }
  }

 private:
  // Places the next codes in four slots.
  __device__ __forceinline__ void Four(uint32_t mask, uint32_t& low, uint32_t& high) {
    const uint32_t count = __popc(mask);
    const uint32_t* words = reinterpret_cast<const uint32_t*>(codes_) + (index_ >> 1);
    const uint32_t odd = index_ & 1;
    // Fewer lanes that load mean fewer bank conflicts.
    const uint32_t w0 = words[0];
    const uint32_t w1 = count + odd > 2 ? words[1] : 0;
    const uint32_t w2 = count + odd > 4 ? words[2] : 0;
    const uint32_t h0 = __funnelshift_r(w0, w1, 16 * odd);
    uint32_t h1 = __funnelshift_r(w1, w2, 16 * odd);
    if (mask != 0xf) h1 &= 0xffff;
    const uint32_t selector = selectors_[mask * kLanes];
    low = Permute(h0, h1, selector);
    high = Permute(h0, h1, selector >> 16);
    index_ += count;
  }

  SparseCursor<kHeadDim> cursor_;
  const uint8_t* codes_;
  const uint32_t* selectors_;
  uint32_t index_;
};

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_EXPAND_CUH_
