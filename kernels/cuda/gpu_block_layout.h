// How the CUDA backend lays out blocks and pages in its arena.
//
// A block holds the same fields as the canonical block (kernels/codec/block_layout.h), in as many
// bytes or 32 more, ordered so that tensor-core operands fall out of them. [num_kv_heads] heads,
// each the keys' part then the values' part.
//
// Tiles. A part is head_dim / 8 tiles of 16 rows x 32 reduction steps: A operands of an m16n8k32
// multiplication. Rows are tokens for keys and channels for values; the reduction runs over
// channels for keys and tokens for values. Tile t of the keys has tokens 16 * (t / (head_dim / 32))
// + 0..15; tile t of the values channels 16 * (t / 2) + 0..15. Within a tile, lane = 4 * g + j of a
// warp owns rows g and g + 8 and in each of them 8 `slots`, of a reduction order of its own
// (ElementOf): lane j of a quad has channels j * head_dim / 4 + 0 .. head_dim / 4 - 1 of the keys,
// and the tokens of a value whose number is 2j or 2j + 1 modulo 8.
//
// Fields of a part, in this order (sizes as in the canonical block):
//   masks      absent where kept == head_dim. One bit a slot; a byte a row; two bytes (row g, row
//              g + 8) a tile and lane; tiles 2w and 2w + 1 make 32-bit word w of a lane. Words lie
//              [head_dim / 64][lane][4].
//   codes      kept == head_dim: [tile][lane][..] with the bits that DenseCodeBit and the like say.
//              Otherwise one stream of bits: lanes ascending, of a lane tiles ascending, row g
//              before row g + 8, slots ascending, kept ones alone. Every kLanesAGap lanes a gap of
//              gap_bits() keeps lanes of an evenly filled block out of each other's memory banks.
//              Of 16 bits, units of 4 codes have the 4 low bytes first, then the high ones.
//              Codes of 4 and 8 bits have their highest bit flipped: two's complement.
//   exponents  [head_dim] int8, as in the canonical block
//   scales     [8 (g)][4][2] float16: token 16 * a + 8 * b + g at [g][a][b]
//
// A page holds 16 exact tokens: [num_kv_heads], each the keys, float16 [head_dim / 32][2][lane][8]:
// slot i of tile row (lane, half) as in a dense key tile of 16 bits; then the values, float16
// [head_dim / 16][lane][2][4]: token 8 * (i & 1) + 2 * j + (i >> 1) of channel 16 * tile + 8 * half
// + g at [tile][lane][half][i].
//
// Thread-safe: constants and pure functions, on host and device.
#ifndef KVATTEND_KERNELS_CUDA_GPU_BLOCK_LAYOUT_H_
#define KVATTEND_KERNELS_CUDA_GPU_BLOCK_LAYOUT_H_

#include <cstdint>

#ifdef __CUDACC__
#define KVATTEND_HOST_DEVICE __host__ __device__
#else
#define KVATTEND_HOST_DEVICE
#endif

namespace kvattend::cuda {

inline constexpr int kTokensPerBlock = 64;
inline constexpr int kTokensPerPage = 16;
inline constexpr int kLanes = 32;
// Rows that a lane owns in a tile, and slots that it owns in each.
inline constexpr int kTileRows = 2;
inline constexpr int kTileSlots = 8;
inline constexpr int kLanesAGap = 4;

// Byte offsets from the start of a part; all are multiples of 16.
struct GpuPartLayout {
  int head_dim = 0;
  int kept = 0;
  int bits = 0;
  bool is_key = false;
  int code_offset = 0;
  int exponent_offset = 0;
  int scale_offset = 0;
  int size_bytes = 0;

  KVATTEND_HOST_DEVICE constexpr bool is_sparse() const { return kept < head_dim; }
  // Lanes read their streams at the same pace, 2 * kept codes apart on average: multiples of 8
  // words would meet in the same few of the 32 banks.
  KVATTEND_HOST_DEVICE constexpr int gap_bits() const {
    return is_sparse() && kept * bits % 128 == 0 ? 32 : 0;
  }
  KVATTEND_HOST_DEVICE constexpr int num_tiles() const { return head_dim / 8; }
};

KVATTEND_HOST_DEVICE constexpr GpuPartLayout MakeGpuPartLayout(int head_dim, int kept, int bits,
                                                               bool is_key) {
  GpuPartLayout layout{.head_dim = head_dim, .kept = kept, .bits = bits, .is_key = is_key};
  layout.code_offset = layout.is_sparse() ? kTokensPerBlock * head_dim / 8 : 0;
  layout.exponent_offset = layout.code_offset + kTokensPerBlock * kept * bits / 8 +
                           kLanes / kLanesAGap * layout.gap_bits() / 8;
  layout.scale_offset = layout.exponent_offset + (is_key && bits < 16 ? head_dim : 0);
  layout.size_bytes = layout.scale_offset + (bits < 16 ? kTokensPerBlock * 2 : 0);
  return layout;
}

// An element of a part.
struct Element {
  int token = 0;
  int channel = 0;
};

// What slot `slot` of row `row` (0: g, 1: g + 8) of lane `lane` in tile `tile` stands for.
KVATTEND_HOST_DEVICE constexpr Element ElementOf(const GpuPartLayout& layout, int tile, int lane,
                                                 int row, int slot) {
  const int g = lane / 4;
  const int j = lane % 4;
  if (layout.is_key) {
    const int tiles_a_row = layout.head_dim / 32;
    return {.token = tile / tiles_a_row * 16 + 8 * row + g,
            .channel = j * (layout.head_dim / 4) + tile % tiles_a_row * 8 + slot};
  }
  // 16-bit tiles are two m16n8k16 operands, each of the 16 tokens of one page's worth; the others
  // take their slots in the order in which the probabilities of a lane are packed.
  const int page = 2 * (tile % 2) + (layout.bits == 16 ? slot >> 2 : (slot >> 1) & 1);
  const int odd = layout.bits == 16 ? (slot >> 1) & 1 : slot >> 2;
  return {.token = 16 * page + 8 * (slot & 1) + 2 * j + odd,
          .channel = tile / 2 * 16 + 8 * row + g};
}

// Where the code of an element of a dense part begins: a bit of the part's codes.
KVATTEND_HOST_DEVICE constexpr int DenseCodeBit(int bits, int tile, int lane, int row, int slot) {
  // Operand register (a0 .. a3 of m16n8k32) and byte in it.
  const int reg = row + 2 * (slot / 4);
  const int byte = slot % 4;
  switch (bits) {
    case 2:  // [tile / 4][lane][tile % 4], a word each: nibbles hold two registers' codes
      return ((tile / 4 * kLanes + lane) * 4 + tile % 4) * 32 + 16 * (reg & 1) + 4 * byte +
             2 * (reg >> 1);
    case 4:  // [tile / 2][lane][tile % 2], two words each: bytes hold two registers' codes
      return ((tile / 2 * kLanes + lane) * 2 + tile % 2) * 64 + 32 * (reg >> 1) + 8 * byte +
             4 * (reg & 1);
    case 8:  // [tile][lane], four words each
      return (tile * kLanes + lane) * 128 + 32 * reg + 8 * byte;
    default:  // 16 bits: [tile][row][lane], 8 halves each
      return ((tile * kTileRows + row) * kLanes + lane) * 128 + 16 * slot;
  }
}

// Where byte `byte` (0: low) of code number `index` of a sparse stream of 16 bits lies, among the
// codes of a part.
KVATTEND_HOST_DEVICE constexpr int SparseHalfByte(int index, int byte) {
  return index / 4 * 8 + byte * 4 + index % 4;
}

// Index of a token's scale among the scales of a part.
KVATTEND_HOST_DEVICE constexpr int ScaleIndex(int token) { return token % 8 * 8 + token / 8; }

// Bytes of a page for one KV head, and where its values begin.
KVATTEND_HOST_DEVICE constexpr int PageHeadBytes(int head_dim) {
  return 2 * kTokensPerPage * head_dim * 2;
}
KVATTEND_HOST_DEVICE constexpr int PageValueOffset(int head_dim) {
  return kTokensPerPage * head_dim * 2;
}

// Index of an element of a page among its keys, or among its values, as float16.
KVATTEND_HOST_DEVICE constexpr int PageKeyIndex(int head_dim, int slot, int channel) {
  const int j = channel / (head_dim / 4);
  const int within = channel % (head_dim / 4);
  const int lane = slot % 8 * 4 + j;
  return ((within / 8 * kTileRows + slot / 8) * kLanes + lane) * 8 + within % 8;
}
KVATTEND_HOST_DEVICE constexpr int PageValueIndex(int slot, int channel) {
  const int lane = channel % 8 * 4 + slot % 8 / 2;
  return ((channel / 16 * kLanes + lane) * 2 + channel % 16 / 8) * 4 + slot % 2 * 2 + slot / 8;
}

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_GPU_BLOCK_LAYOUT_H_
