#include "tests/gpu/gpu_layout_reference.h"

#include <array>
#include <cstddef>

#include "kernels/codec/block_part.h"
#include "kernels/cuda/gpu_block_layout.h"

namespace kvattend::testing {
namespace {

constexpr uint16_t kNan = 0x7fff;

void StoreBits(uint32_t value, int num_bits, size_t first_bit, uint8_t* bytes) {
  for (int i = 0; i < num_bits; ++i) {
    const size_t bit = first_bit + static_cast<size_t>(i);
    if ((value >> i & 1) != 0) bytes[bit / 8] |= static_cast<uint8_t>(1 << (bit % 8));
  }
}

// Two's complement for the levels that are multiplied as integers.
uint32_t StoredCode(uint16_t code, int bits) {
  return bits == 4 || bits == 8 ? code ^ (1u << (bits - 1)) : code;
}

}  // namespace

std::vector<uint8_t> ToGpuPart(const CodecSpec& codec, VectorRole role, const uint8_t* canonical) {
  const PartShape shape(codec, role);
  const cuda::GpuPartLayout layout = cuda::MakeGpuPartLayout(
      codec.head_dim, shape.format.kept, shape.format.bits, role == VectorRole::kKey);
  std::vector<uint8_t> part(static_cast<size_t>(layout.size_bytes), 0);

  // Index of each kept element among its token's, or -1.
  std::vector<std::vector<int>> index(kBlockTokens, std::vector<int>(codec.head_dim, -1));
  for (int t = 0; t < kBlockTokens; ++t) {
    const ChannelMask mask = LoadMask(shape, canonical, t);
    int next = 0;
    for (int c = 0; c < codec.head_dim; ++c) {
      if (mask[c]) index[t][c] = next++;
    }
  }
  uint8_t* codes = part.data() + layout.code_offset;
  size_t stream_bit = 0;
  for (int lane = 0; lane < cuda::kLanes; ++lane) {
    if (lane > 0 && lane % cuda::kLanesAGap == 0)
      stream_bit += static_cast<size_t>(layout.gap_bits());
    for (int tile = 0; tile < layout.num_tiles(); ++tile) {
      for (int row = 0; row < cuda::kTileRows; ++row) {
        for (int slot = 0; slot < cuda::kTileSlots; ++slot) {
          const cuda::Element e = cuda::ElementOf(layout, tile, lane, row, slot);
          const int i = index[e.token][e.channel];
          if (i < 0) continue;
          const uint32_t code = StoredCode(LoadCode(shape, canonical, e.token, i), layout.bits);
          if (layout.is_sparse()) {
            const size_t word =
                static_cast<size_t>((tile / 8 * cuda::kLanes + lane) * 4 + tile % 8 / 2);
            StoreBits(1, 1, word * 32 + static_cast<size_t>(tile % 2 * 16 + row * 8 + slot),
                      part.data());
            if (layout.bits == 16) {
              const int number = static_cast<int>(stream_bit / 16);
              codes[cuda::SparseHalfByte(number, 0)] = static_cast<uint8_t>(code);
              codes[cuda::SparseHalfByte(number, 1)] = static_cast<uint8_t>(code >> 8);
            } else {
              StoreBits(code, layout.bits, stream_bit, codes);
            }
            stream_bit += static_cast<size_t>(layout.bits);
          } else {
            StoreBits(code, layout.bits,
                      static_cast<size_t>(cuda::DenseCodeBit(layout.bits, tile, lane, row, slot)),
                      codes);
          }
        }
      }
    }
  }
  if (shape.layout.has_exponents) {
    for (int c = 0; c < codec.head_dim; ++c) {
      part[static_cast<size_t>(layout.exponent_offset + c)] =
          static_cast<uint8_t>(LoadExponent(shape, canonical, c));
    }
  }
  if (shape.layout.has_scales) {
    for (int t = 0; t < kBlockTokens; ++t) {
      StoreBits(LoadScale(shape, canonical, t), 16,
                static_cast<size_t>(8 * layout.scale_offset + 16 * cuda::ScaleIndex(t)),
                part.data());
    }
  }
  return part;
}

std::vector<uint16_t> ToGpuPage(int head_dim, int num_tokens, const uint16_t* keys,
                                const uint16_t* values) {
  std::vector<uint16_t> page(static_cast<size_t>(cuda::PageHeadBytes(head_dim) / 2), kNan);
  uint16_t* value_page = page.data() + cuda::PageValueOffset(head_dim) / 2;
  for (int t = 0; t < num_tokens; ++t) {
    for (int c = 0; c < head_dim; ++c) {
      page[static_cast<size_t>(cuda::PageKeyIndex(head_dim, t, c))] = keys[t * head_dim + c];
      value_page[cuda::PageValueIndex(t, c)] = values[t * head_dim + c];
    }
  }
  return page;
}

}  // namespace kvattend::testing
