// One KV head's share of blocks and pages: between tensors, pages, native and canonical blocks.
#ifndef KVATTEND_KERNELS_CPU_HEAD_BLOCKS_H_
#define KVATTEND_KERNELS_CPU_HEAD_BLOCKS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/backend.h"
#include "kernels/cpu/native_block.h"

namespace kvattend {

// float16 [64][head_dim] of one KV head.
struct HeadTokens {
  alignas(64) uint16_t keys[kBlockTokens * kMaxHeadDim];
  alignas(64) uint16_t values[kBlockTokens * kMaxHeadDim];
};

// Pointers to blocks and tensors are to the first KV head's; tensors are [tokens, num_kv_heads,
// head_dim]. Thread-safe: different heads may be worked on at the same time.
class HeadCodec {
 public:
  HeadCodec(const LayerShape& shape, int kv_head);

  // Copies num_tokens tokens from tensors to rows first_token .. of `tokens`.
  void Gather(const uint16_t* keys, const uint16_t* values, int first_token, int num_tokens,
              HeadTokens* tokens) const;
  // Copies the first num_tokens tokens of pages.
  void GatherPages(const uint16_t* const* pages, int num_tokens, HeadTokens* tokens) const;

  void EncodeCanonical(const HeadTokens& tokens, uint8_t* block) const;
  void EncodeNative(const HeadTokens& tokens, uint8_t* block) const;
  // To float32 tensors of 64 tokens.
  void DecodeCanonical(const uint8_t* block, float* keys, float* values) const;
  // Rounded to float16, saturating.
  void DecodeNative(const uint8_t* block, HeadTokens* tokens) const;
  void ToCanonical(const uint8_t* native, uint8_t* canonical) const;
  void ToNative(const uint8_t* canonical, uint8_t* native) const;

 private:
  const CodecSpec codec_;
  const int num_kv_heads_;
  const int kv_head_;
  const NativePart keys_;
  const NativePart values_;
  // From the block's start to this head's parts.
  const size_t keys_offset_;
  const size_t values_offset_;
};

// Writes num_tokens tokens of tensors into slots first_slot .. of a page.
void WritePageHead(const LayerShape& shape, int kv_head, int first_slot, int num_tokens,
                   const uint16_t* keys, const uint16_t* values, uint16_t* page);

}  // namespace kvattend

#endif  // KVATTEND_KERNELS_CPU_HEAD_BLOCKS_H_
