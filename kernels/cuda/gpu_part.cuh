// Between tiles of codes and parts in the layout of gpu_block_layout.h.
#ifndef KVATTEND_KERNELS_CUDA_GPU_PART_CUH_
#define KVATTEND_KERNELS_CUDA_GPU_PART_CUH_

#include <cstdint>

#include "kernels/cuda/codec_tile.cuh"
#include "kernels/cuda/part_codec.h"

namespace kvattend::cuda {

// One kind of part: what ElementOf depends on is constant. Lane `lane` of each of the kWarps warps
// handles kTilesAWarp tiles of that lane of the layout.
template <int kHeadDim, bool kIsKey, bool kIsHalf>
class GpuPart {
 public:
  __device__ __forceinline__ GpuPart(const PartCodec& part, CodecTile<kHeadDim>& tile,
                                     uint8_t* image)
      : part_(part),
        tile_(tile),
        image_(image),
        codes_(reinterpret_cast<uint32_t*>(image + part.gpu.code_offset)),
        // Codes that are multiplied as integers are two's complement.
        flip_(part.gpu.bits == 4 || part.gpu.bits == 8 ? 1u << (part.gpu.bits - 1) : 0) {}

  // Writes codes (and masks) into an image of zeros. Synchronises the thread block.
  __device__ __forceinline__ void Pack() {
    if (!part_.gpu.is_sparse()) return PackDense();
    for (int tile = first_tile(); tile < first_tile() + kTilesAWarp; ++tile) {
      uint32_t mask = 0;
#pragma unroll
      for (int i = 0; i < kElements; ++i) {
        mask |= (Element(tile, i) != kDropped ? 1u : 0) << i;
      }
      Mask(tile, lane()) = static_cast<uint16_t>(mask);
    }
    __syncthreads();
    if (part_.gpu.bits == 16) {
      PackHalves();
    } else {
      PackCodes();
    }
    __syncthreads();
  }

  // The reverse: fills the tile.
  __device__ __forceinline__ void Unpack() {
    uint32_t bit = part_.gpu.is_sparse() ? StreamBit() : 0;
    for (int tile = first_tile(); tile < first_tile() + kTilesAWarp; ++tile) {
      const uint32_t mask = part_.gpu.is_sparse() ? Mask(tile, lane()) : ~0u;
#pragma unroll
      for (int i = 0; i < kElements; ++i) {
        if (!part_.gpu.is_sparse()) bit = DenseBit(tile, i);
        const bool kept = (mask >> i & 1) != 0;
        Element(tile, i) = kept ? Code(bit) : kDropped;
        if (kept) bit += part_.gpu.bits;
      }
    }
    __syncthreads();
  }

 private:
  static constexpr int kElements = kTileRows * kTileSlots;
  static constexpr int kTilesAWarp = kHeadDim / 8 / (kCodecThreads / kLanes);

  __device__ __forceinline__ static int lane() { return threadIdx.x % kLanes; }
  __device__ __forceinline__ static int first_tile() { return threadIdx.x / kLanes * kTilesAWarp; }

  // Element i (slot i % 8 of row i / 8) of a tile, of this lane.
  __device__ __forceinline__ uint16_t& Element(int tile, int i) {
    constexpr GpuPartLayout kLayout{
        .head_dim = kHeadDim, .bits = kIsHalf ? 16 : 8, .is_key = kIsKey};
    const cuda::Element e = ElementOf(kLayout, tile, lane(), i / kTileSlots, i % kTileSlots);
    return tile_.row(e.token)[e.channel];
  }
  __device__ __forceinline__ uint16_t& Mask(int tile, int lane) {
    return reinterpret_cast<uint16_t*>(image_)[(tile / 8 * kLanes + lane) * 8 + tile % 8];
  }
  __device__ __forceinline__ uint32_t DenseBit(int tile, int i) const {
    return DenseCodeBit(part_.gpu.bits, tile, lane(), i / kTileSlots, i % kTileSlots);
  }

  // Where the codes of this lane's tiles from first_tile() on begin in the stream.
  __device__ __forceinline__ uint32_t StreamBit() {
    uint32_t before = 0;
    uint32_t all = 0;
#pragma unroll
    for (int tile = 0; tile < kHeadDim / 8; ++tile) {
      const uint32_t count = __popc(Mask(tile, lane()));
      all += count;
      if (tile < first_tile()) before += count;
    }
    uint32_t through = all;
#pragma unroll
    for (int distance = 1; distance < kLanes; distance *= 2) {
      const uint32_t other = __shfl_up_sync(~0u, through, distance);
      if (lane() >= distance) through += other;
    }
    return (through - all + before) * part_.gpu.bits + lane() / kLanesAGap * part_.gpu.gap_bits();
  }

  // The sparse stream of codes of fewer than 16 bits.
  __device__ __forceinline__ void PackCodes() {
    CodeWriter writer(codes_, StreamBit());
    for (int tile = first_tile(); tile < first_tile() + kTilesAWarp; ++tile) {
#pragma unroll
      for (int i = 0; i < kElements; ++i) {
        const uint32_t code = Element(tile, i);
        if (code != kDropped) writer.Put(code ^ flip_, part_.gpu.bits);
      }
    }
    writer.Finish();
  }
  __device__ __forceinline__ void PackHalves() {
    auto* const bytes = reinterpret_cast<uint8_t*>(codes_);
    int index = static_cast<int>(StreamBit() / 16);
    for (int tile = first_tile(); tile < first_tile() + kTilesAWarp; ++tile) {
#pragma unroll
      for (int i = 0; i < kElements; ++i) {
        const uint32_t code = Element(tile, i);
        if (code == kDropped) continue;
        bytes[SparseHalfByte(index, 0)] = static_cast<uint8_t>(code);
        bytes[SparseHalfByte(index, 1)] = static_cast<uint8_t>(code >> 8);
        ++index;
      }
    }
  }

  // The code at a bit of the codes, as canonical blocks have it.
  __device__ __forceinline__ uint16_t Code(uint32_t bit) const {
    if (part_.gpu.bits == 16 && part_.gpu.is_sparse()) {
      const auto* const bytes = reinterpret_cast<const uint8_t*>(codes_);
      const int index = static_cast<int>(bit / 16);
      return static_cast<uint16_t>(bytes[SparseHalfByte(index, 0)] | bytes[SparseHalfByte(index, 1)]
                                                                         << 8);
    }
    return static_cast<uint16_t>(CodeReader(codes_, bit).Get(part_.gpu.bits) ^ flip_);
  }

  __device__ __forceinline__ void PackDense() {
    switch (part_.gpu.bits) {
      case 2:
        return PackWords<2>();
      case 4:
        return PackWords<4>();
      case 8:
        return PackWords<8>();
      default:
        for (int tile = first_tile(); tile < first_tile() + kTilesAWarp; ++tile) {
#pragma unroll
          for (int i = 0; i < kElements; ++i) {
            reinterpret_cast<uint16_t*>(codes_)[DenseBit(tile, i) / 16] = Element(tile, i);
          }
        }
        __syncthreads();
    }
  }

  // The codes of a lane's tile are words of their own.
  template <int kBits>
  __device__ __forceinline__ void PackWords() {
    constexpr int kWords = kElements * kBits / 32;
    for (int tile = first_tile(); tile < first_tile() + kTilesAWarp; ++tile) {
      uint32_t words[kWords] = {};
#pragma unroll
      for (int i = 0; i < kElements; ++i) {
        const int bit = DenseCodeBit(kBits, 0, 0, i / kTileSlots, i % kTileSlots);
        words[bit / 32] |= (Element(tile, i) ^ flip_) << (bit % 32);
      }
      const int first_word = DenseCodeBit(kBits, tile, lane(), 0, 0) / 32;
#pragma unroll
      for (int w = 0; w < kWords; ++w) codes_[first_word + w] = words[w];
    }
    __syncthreads();
  }

  const PartCodec& part_;
  CodecTile<kHeadDim>& tile_;
  uint8_t* image_;
  uint32_t* codes_;
  uint32_t flip_;
};

// Calls work(GpuPart) for the kind of part that it is.
template <int kHeadDim, typename Work>
__device__ __forceinline__ void WithGpuPart(const PartCodec& part, CodecTile<kHeadDim>& tile,
                                            uint8_t* image, const Work& work) {
  if (part.gpu.is_key) {
    work(GpuPart<kHeadDim, true, false>(part, tile, image));
  } else if (part.gpu.bits == 16) {
    work(GpuPart<kHeadDim, false, true>(part, tile, image));
  } else {
    work(GpuPart<kHeadDim, false, false>(part, tile, image));
  }
}

// Writes a tile of codes to a part in the arena, by way of `image`: shared memory for
// part.gpu.size_bytes.
template <int kHeadDim>
__device__ __forceinline__ void StoreGpuPart(const PartCodec& part, CodecTile<kHeadDim>& tile,
                                             uint8_t* image, uint8_t* destination) {
  ZeroBytes(image, part.gpu.size_bytes);
  __syncthreads();
  WithGpuPart(part, tile, image, [](auto gpu_part) { gpu_part.Pack(); });
  if (part.has_exponents() && threadIdx.x < kHeadDim) {
    image[part.gpu.exponent_offset + threadIdx.x] =
        static_cast<uint8_t>(tile.exponents[threadIdx.x]);
  }
  if (part.has_scales() && threadIdx.x < kTokensPerBlock) {
    reinterpret_cast<uint16_t*>(image + part.gpu.scale_offset)[ScaleIndex(threadIdx.x)] =
        tile.scales[threadIdx.x];
  }
  __syncthreads();
  CopyBytes(destination, image, part.gpu.size_bytes);
}

// The reverse.
template <int kHeadDim>
__device__ __forceinline__ void LoadGpuPart(const PartCodec& part, const uint8_t* source,
                                            uint8_t* image, CodecTile<kHeadDim>& tile) {
  CopyBytes(image, source, part.gpu.size_bytes);
  __syncthreads();
  if (part.has_exponents() && threadIdx.x < kHeadDim) {
    tile.exponents[threadIdx.x] =
        static_cast<int8_t>(image[part.gpu.exponent_offset + threadIdx.x]);
  }
  if (part.has_scales() && threadIdx.x < kTokensPerBlock) {
    tile.scales[threadIdx.x] =
        reinterpret_cast<const uint16_t*>(image + part.gpu.scale_offset)[ScaleIndex(threadIdx.x)];
  }
  WithGpuPart(part, tile, image, [](auto gpu_part) { gpu_part.Unpack(); });
}

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_GPU_PART_CUH_
