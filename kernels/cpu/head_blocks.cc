#include "kernels/cpu/head_blocks.h"

#include <cstring>

#include "kernels/base/half.h"
#include "kernels/cpu/decode.h"
#include "kernels/cpu/encode.h"
#include "kernels/cpu/page.h"

namespace kvattend {
namespace {

// The largest part: float16 codes of all channels, and the bitmaps of one channel less.
constexpr size_t kMaxPartBytes = kBlockTokens * (kMaxHeadDim * sizeof(uint16_t) + kMaxHeadDim / 8);

}  // namespace

HeadCodec::HeadCodec(const LayerShape& shape, int kv_head)
    : codec_(shape.codec),
      num_kv_heads_(shape.num_kv_heads),
      kv_head_(kv_head),
      keys_(MakeNativePart(shape.codec, VectorRole::kKey)),
      values_(MakeNativePart(shape.codec, VectorRole::kValue)),
      keys_offset_(kv_head * (keys_.layout.size_bytes + values_.layout.size_bytes)),
      values_offset_(keys_offset_ + keys_.layout.size_bytes) {}

void HeadCodec::Gather(const uint16_t* keys, const uint16_t* values, int first_token,
                       int num_tokens, HeadTokens* tokens) const {
  const int head_dim = codec_.head_dim;
  const size_t row_bytes = head_dim * sizeof(uint16_t);
  for (int t = 0; t < num_tokens; ++t) {
    const size_t from = (size_t{1} * t * num_kv_heads_ + kv_head_) * head_dim;
    const size_t to = size_t{1} * (first_token + t) * head_dim;
    std::memcpy(tokens->keys + to, keys + from, row_bytes);
    std::memcpy(tokens->values + to, values + from, row_bytes);
  }
}

void HeadCodec::GatherPages(const uint16_t* const* pages, int num_tokens,
                            HeadTokens* tokens) const {
  const int head_dim = codec_.head_dim;
  for (int t = 0; t < num_tokens; ++t) {
    const uint16_t* const page = pages[t / kPageTokens];
    const int slot = t % kPageTokens;
    const uint16_t* const keys = PageKeys(page, head_dim, kv_head_) + slot;
    for (int c = 0; c < head_dim; ++c) tokens->keys[t * head_dim + c] = keys[c * kPageTokens];
    std::memcpy(tokens->values + t * head_dim,
                PageValues(page, head_dim, kv_head_) + slot * head_dim,
                head_dim * sizeof(uint16_t));
  }
}

void HeadCodec::EncodeCanonical(const HeadTokens& tokens, uint8_t* block) const {
  EncodePart(codec_, VectorRole::kKey, tokens.keys, block + keys_offset_);
  EncodePart(codec_, VectorRole::kValue, tokens.values, block + values_offset_);
}

void HeadCodec::EncodeNative(const HeadTokens& tokens, uint8_t* block) const {
  alignas(64) uint8_t part[kMaxPartBytes];
  EncodePart(codec_, VectorRole::kKey, tokens.keys, part);
  CanonicalToNative(keys_, part, block + keys_offset_);
  EncodePart(codec_, VectorRole::kValue, tokens.values, part);
  CanonicalToNative(values_, part, block + values_offset_);
}

void HeadCodec::DecodeCanonical(const uint8_t* block, float* keys, float* values) const {
  const int head_dim = codec_.head_dim;
  alignas(64) float tokens[kBlockTokens * kMaxHeadDim];
  const auto scatter = [&](float* tensor) {
    for (int t = 0; t < kBlockTokens; ++t) {
      std::memcpy(tensor + (size_t{1} * t * num_kv_heads_ + kv_head_) * head_dim,
                  tokens + t * head_dim, head_dim * sizeof(float));
    }
  };
  DecodePart(codec_, VectorRole::kKey, block + keys_offset_, tokens);
  scatter(keys);
  DecodePart(codec_, VectorRole::kValue, block + values_offset_, tokens);
  scatter(values);
}

void HeadCodec::DecodeNative(const uint8_t* block, HeadTokens* tokens) const {
  alignas(64) uint8_t part[kMaxPartBytes];
  alignas(64) float floats[kBlockTokens * kMaxHeadDim];
  const int count = kBlockTokens * codec_.head_dim;
  NativeToCanonical(keys_, block + keys_offset_, part);
  DecodePart(codec_, VectorRole::kKey, part, floats);
  for (int i = 0; i < count; ++i) tokens->keys[i] = FloatToHalfSaturating(floats[i]);
  NativeToCanonical(values_, block + values_offset_, part);
  DecodePart(codec_, VectorRole::kValue, part, floats);
  for (int i = 0; i < count; ++i) tokens->values[i] = FloatToHalfSaturating(floats[i]);
}

void HeadCodec::ToCanonical(const uint8_t* native, uint8_t* canonical) const {
  NativeToCanonical(keys_, native + keys_offset_, canonical + keys_offset_);
  NativeToCanonical(values_, native + values_offset_, canonical + values_offset_);
}

void HeadCodec::ToNative(const uint8_t* canonical, uint8_t* native) const {
  CanonicalToNative(keys_, canonical + keys_offset_, native + keys_offset_);
  CanonicalToNative(values_, canonical + values_offset_, native + values_offset_);
}

void WritePageHead(const LayerShape& shape, int kv_head, int first_slot, int num_tokens,
                   const uint16_t* keys, const uint16_t* values, uint16_t* page) {
  const int head_dim = shape.codec.head_dim;
  uint16_t* const page_keys = PageKeys(page, head_dim, kv_head) + first_slot;
  uint16_t* const page_values = PageValues(page, head_dim, kv_head) + first_slot * head_dim;
  for (int t = 0; t < num_tokens; ++t) {
    const size_t from = (size_t{1} * t * shape.num_kv_heads + kv_head) * head_dim;
    for (int c = 0; c < head_dim; ++c) page_keys[c * kPageTokens + t] = keys[from + c];
    std::memcpy(page_values + t * head_dim, values + from, head_dim * sizeof(uint16_t));
  }
}

}  // namespace kvattend
