#include "kernels/codec/reference_codec.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "kernels/base/half.h"
#include "kernels/base/status_macros.h"
#include "kernels/codec/block_part.h"
#include "kernels/codec/quantiser.h"

namespace kvattend {
namespace {

// Sums 2^n elements as a tree: neighbours first, then neighbouring sums.
float PairwiseSum(std::vector<float> x) {
  for (size_t size = x.size() / 2; size > 0; size /= 2) {
    for (size_t i = 0; i < size; ++i) x[i] = x[2 * i] + x[2 * i + 1];
  }
  return x[0];
}

// ---- Encoding.

// Step 1: the `kept` channels of largest magnitude; among equals the lower ones.
ChannelMask Prune(absl::Span<const uint16_t> x, int kept) {
  // Magnitudes of float16 are ordered as their patterns without the sign are.
  const auto magnitude = [&](int c) { return x[c] & 0x7fff; };
  std::vector<int> channels(x.size());
  std::iota(channels.begin(), channels.end(), 0);
  std::partial_sort(channels.begin(), channels.begin() + kept, channels.end(), [&](int a, int b) {
    return magnitude(a) != magnitude(b) ? magnitude(a) > magnitude(b) : a < b;
  });
  ChannelMask mask(x.size(), false);
  for (int i = 0; i < kept; ++i) mask[channels[i]] = true;
  return mask;
}

// Step 2: the exponent of one channel from its 64 values, kept or not.
int ChannelExponent(const uint16_t* x, int head_dim, int channel) {
  std::vector<float> squares(kBlockTokens);
  for (int t = 0; t < kBlockTokens; ++t) {
    const float value = HalfToFloat(x[t * head_dim + channel]);
    squares[t] = value * value;
  }
  return EqualiserExponent(PairwiseSum(std::move(squares)) / kBlockTokens);
}

// Step 3: scales. `x` has the equalised values of a token, with zeros for dropped channels.

float TwoBitScale(const std::vector<float>& x, int kept, const TwoBitLevels& levels) {
  std::vector<float> magnitudes(x.size());
  for (size_t c = 0; c < x.size(); ++c) magnitudes[c] = std::abs(x[c]);
  const float sum = PairwiseSum(magnitudes);

  const float border = sum * levels.first_border;
  int num_large = 0;
  std::vector<float> large(x.size(), 0.0f);
  for (size_t c = 0; c < x.size(); ++c) {
    if (magnitudes[c] > border) {
      large[c] = magnitudes[c];
      ++num_large;
    }
  }
  // Least squares: sum(|x| * level) / sum(level^2), levels being 1 and ratio.
  const float ratio = levels.ratio;
  return (sum + (ratio - 1.0f) * PairwiseSum(std::move(large))) /
         (static_cast<float>(kept) + (ratio * ratio - 1.0f) * static_cast<float>(num_large));
}

// The code of a value in units of the scale, for 4 and 8 bits.
uint16_t UniformCode(float x, float inverse_scale, int bits) {
  const auto half_range = static_cast<float>(1 << (bits - 1));
  const float u = std::floor(x * inverse_scale + half_range);
  return static_cast<uint16_t>(std::clamp(u, 0.0f, 2.0f * half_range - 1.0f));
}

float UniformLevel(uint16_t code, int bits) {
  return static_cast<float>(code) - static_cast<float>((1 << bits) - 1) / 2.0f;
}

float UniformScale(const std::vector<float>& x, const ChannelMask& mask, int bits) {
  float largest = 0.0f;
  for (const float value : x) largest = std::max(largest, std::abs(value));
  if (largest == 0.0f) return 0.0f;

  // The first guess puts the largest value at the end of the range.
  const float inverse_scale = static_cast<float>(1 << (bits - 1)) / largest;
  std::vector<float> products(x.size(), 0.0f);
  float sum_of_squares = 0.0f;  // exact, at most 256 * 127.5^2 in quarters, so its order is free
  for (size_t c = 0; c < x.size(); ++c) {
    if (!mask[c]) continue;
    const float level = UniformLevel(UniformCode(x[c], inverse_scale, bits), bits);
    products[c] = x[c] * level;
    sum_of_squares += level * level;
  }
  return PairwiseSum(std::move(products)) / sum_of_squares;
}

uint16_t TwoBitCode(float x, float scale, const TwoBitLevels& levels) {
  return static_cast<uint16_t>((std::signbit(x) ? 2 : 0) |
                               (std::abs(x) > scale * levels.threshold ? 1 : 0));
}

// Writes the scale and the codes of a token. `x` as above.
void QuantiseToken(const PartShape& shape, const std::vector<float>& x, const ChannelMask& mask,
                   int token, uint8_t* part) {
  const auto [kept, bits] = shape.format;
  const TwoBitLevels levels = TwoBitLevelsOf(shape.format, shape.head_dim);
  const uint16_t scale_bits =
      FloatToHalf(bits == 2 ? TwoBitScale(x, kept, levels) : UniformScale(x, mask, bits));
  StoreScale(shape, scale_bits, token, part);
  const float scale = HalfToFloat(scale_bits);
  if (scale == 0.0f) return;  // codes stay 0

  const float inverse_scale = 1.0f / scale;
  int index = 0;
  for (size_t c = 0; c < x.size(); ++c) {
    if (!mask[c]) continue;
    const uint16_t code =
        bits == 2 ? TwoBitCode(x[c], scale, levels) : UniformCode(x[c], inverse_scale, bits);
    StoreCode(shape, code, token, index++, part);
  }
}

// Copies the kept values of a token as they are: the codes of 16 bits.
void CopyToken(const PartShape& shape, absl::Span<const uint16_t> x, const ChannelMask& mask,
               int token, uint8_t* part) {
  int index = 0;
  for (size_t c = 0; c < x.size(); ++c) {
    if (mask[c]) StoreCode(shape, x[c], token, index++, part);
  }
}

// ---- Decoding.

// The value of a code: level * scale * sqrt(2)^exponent.
float DecodeValue(const PartShape& shape, uint16_t code, float scale, int exponent) {
  const int bits = shape.format.bits;
  if (bits == 16) return HalfToFloat(code);
  float level;
  if (bits == 2) {
    level = (code & 1) != 0 ? TwoBitMagnitudeRatio(shape.format, shape.head_dim) : 1.0f;
    if ((code & 2) != 0) level = -level;
  } else {
    level = UniformLevel(code, bits);
  }
  return (level * scale) * HalfOctavePower(exponent);
}

// ---- Validation.

absl::Status ValidateToken(const PartShape& shape, const uint8_t* part, int token) {
  const ChannelMask mask = LoadMask(shape, part, token);
  const auto found = std::count(mask.begin(), mask.end(), true);
  if (found != shape.format.kept) {
    return absl::InvalidArgumentError(absl::StrCat("token ", token, ": expected ",
                                                   shape.format.kept,
                                                   " kept channels in its bitmap, found ", found));
  }
  if (shape.layout.has_scales) {
    const uint16_t scale = LoadScale(shape, part, token);
    if (!IsFiniteHalf(scale) || (scale & 0x8000) != 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "token ", token, ": expected a scale that is finite and not negative, found ",
          HalfToFloat(scale)));
    }
    return absl::OkStatus();
  }
  for (int i = 0; i < shape.format.kept; ++i) {
    const uint16_t code = LoadCode(shape, part, token, i);
    if (!IsFiniteHalf(code)) {
      return absl::InvalidArgumentError(absl::StrCat("token ", token, ": kept value ", i, " is ",
                                                     HalfToFloat(code), ", not finite"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

void EncodeReference(const CodecSpec& codec, VectorRole role, const uint16_t* x, uint8_t* part) {
  const PartShape shape(codec, role);
  const int head_dim = shape.head_dim;
  std::memset(part, 0, shape.layout.size_bytes);
  std::vector<int> exponents(head_dim, 0);
  if (shape.layout.has_exponents) {
    for (int c = 0; c < head_dim; ++c) {
      exponents[c] = ChannelExponent(x, head_dim, c);
      StoreExponent(shape, exponents[c], c, part);
    }
  }
  for (int t = 0; t < kBlockTokens; ++t) {
    const auto token = absl::MakeConstSpan(x + t * head_dim, head_dim);
    const ChannelMask mask = Prune(token, shape.format.kept);
    StoreMask(shape, mask, t, part);
    if (shape.format.bits == 16) {
      CopyToken(shape, token, mask, t, part);
      continue;
    }
    std::vector<float> equalised(head_dim, 0.0f);
    for (int c = 0; c < head_dim; ++c) {
      if (mask[c]) equalised[c] = HalfToFloat(token[c]) * HalfOctavePower(-exponents[c]);
    }
    QuantiseToken(shape, equalised, mask, t, part);
  }
}

void DecodeReference(const CodecSpec& codec, VectorRole role, const uint8_t* part, float* x) {
  const PartShape shape(codec, role);
  for (int t = 0; t < kBlockTokens; ++t) {
    const ChannelMask mask = LoadMask(shape, part, t);
    const float scale = shape.layout.has_scales ? HalfToFloat(LoadScale(shape, part, t)) : 1.0f;
    int index = 0;
    for (int c = 0; c < shape.head_dim; ++c) {
      x[t * shape.head_dim + c] = mask[c] ? DecodeValue(shape, LoadCode(shape, part, t, index++),
                                                        scale, LoadExponent(shape, part, c))
                                          : 0.0f;
    }
  }
}

absl::Status ValidateBlockPart(const CodecSpec& codec, VectorRole role, const uint8_t* part) {
  const PartShape shape(codec, role);
  for (int c = 0; c < shape.head_dim; ++c) {
    const int exponent = LoadExponent(shape, part, c);
    if (exponent < kMinExponent || exponent > kMaxExponent) {
      return absl::InvalidArgumentError(absl::StrCat("channel ", c, ": expected an exponent of ",
                                                     kMinExponent, " to ", kMaxExponent, ", found ",
                                                     exponent));
    }
  }
  for (int t = 0; t < kBlockTokens; ++t) {
    KVATTEND_RETURN_IF_ERROR(ValidateToken(shape, part, t));
  }
  return absl::OkStatus();
}

}  // namespace kvattend
