// The CPU's layout of a block, and its conversion from and to the canonical one.
//
// A native block is a permutation of the canonical block: the same fields at the same offsets, with
// exponents and scales as they are, and bitmaps and codes in the order in which the attention
// kernels consume elements. A dot product reduces over one dimension (keys: channels; values:
// tokens) and keeps the other in SIMD lanes (keys: 64 tokens; values: head_dim channels). A kernel
// works on a group of lanes whose sums fit in registers, from the first reduction index to the
// last, then on the next group. With reduction index r and lane l, element (r, l) has the index
//   quad order   groups of n = 32 lanes: ((l / n * num_reduced / 4 + r / 4) * n + l % n) * 4 + r %
//   4
//                for formats multiplied as 8-bit integers: four neighbours are what one 32-bit lane
//                of VPDPBUSD reduces
//   plain order  groups of n = 64 lanes: (l / n * num_reduced + r) * n + l % n
//                for formats multiplied as float32
// Bit i % 64 of bitmap word i / 64 says whether element i is kept. Codes of kept elements follow in
// order, in groups of 64 that take 8 * bits bytes: code k of a group has the bits `bits * (k / n)`
// and up of byte k % n, n = 8 * bits, so that one shift per vector lane unpacks a group (8 and 16
// bits: simply one code after the other). A block has 64 * kept codes: whole groups.
//
// Thread-safe: plain values and pure functions.
#ifndef KVATTEND_KERNELS_CPU_NATIVE_BLOCK_H_
#define KVATTEND_KERNELS_CPU_NATIVE_BLOCK_H_

#include <cstddef>
#include <cstdint>

#include "kernels/codec/block_layout.h"
#include "kernels/codec/codec_spec.h"
#include "kernels/codec/reference_codec.h"

namespace kvattend {

inline constexpr int kMaxHeadDim = 256;

// Keys or values of one KV head of a native block.
struct NativePart {
  VectorRole role = VectorRole::kKey;
  int head_dim = 0;
  int kept = 0;
  int bits = 0;
  VectorLayout layout;
  // Quad order; plain order otherwise.
  bool quads = false;

  // Quad order: an element is stored in an unsigned byte, level_offset where it is pruned, else
  //   levels[code] (2 bits), 2 * code (4 bits) or code (8 bits)
  // and stands for (byte - level_offset + level_bias) * level_unit * token scale.
  // Plain order: a pruned element is 0, else a float16 pattern (16 bits) or code + level_bias (8
  // bits, times the token scale).
  uint8_t levels[4] = {};
  int level_offset = 0;
  float level_bias = 0.0f;
  float level_unit = 1.0f;
  // About the norm of a vector's levels (in level_units) beside a token scale of 1.
  float level_norm = 0.0f;

  bool is_keys() const { return role == VectorRole::kKey; }
  int num_reduced() const { return is_keys() ? head_dim : kBlockTokens; }
  int num_lanes() const { return is_keys() ? kBlockTokens : head_dim; }
  int group_lanes() const { return quads ? 32 : 64; }
  bool is_sparse() const { return kept < head_dim; }
};

// Of a codec that ValidateCodec accepts.
NativePart MakeNativePart(const CodecSpec& codec, VectorRole role);

// Converts one part (part.layout.size_bytes bytes); source and destination do not overlap.
void CanonicalToNative(const NativePart& part, const uint8_t* canonical, uint8_t* native);
void NativeToCanonical(const NativePart& part, const uint8_t* native, uint8_t* canonical);

}  // namespace kvattend

#endif  // KVATTEND_KERNELS_CPU_NATIVE_BLOCK_H_
