// Pruning with SIMD: which channels of each token are kept, as the bitmaps of a block.
//
// Included once per target (hwy/foreach_target.h); for targets from AVX2 on.
#if defined(KVATTEND_KERNELS_CPU_ENCODE_PRUNE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVATTEND_KERNELS_CPU_ENCODE_PRUNE_INL_H_
#undef KVATTEND_KERNELS_CPU_ENCODE_PRUNE_INL_H_
#else
#define KVATTEND_KERNELS_CPU_ENCODE_PRUNE_INL_H_
#endif

#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cstdint>

#include "hwy/highway.h"
#include "kernels/codec/codec_spec.h"

HWY_BEFORE_NAMESPACE();
namespace kvattend {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

// Magnitudes of float16 are ordered as their patterns without the sign are, and those are not
// negative as int16, which all targets compare.
using MagnitudeTag = hn::ScalableTag<int16_t>;
using Magnitudes = hn::Vec<MagnitudeTag>;
constexpr int kMagnitudeLanes = static_cast<int>(hn::MaxLanes(MagnitudeTag()));

HWY_INLINE Magnitudes MagnitudesOf(const uint16_t* x) {
  const MagnitudeTag d;
  return hn::And(hn::LoadU(d, reinterpret_cast<const int16_t*>(x)), hn::Set(d, 0x7fff));
}

// A vector whose 128-bit block k holds the 8 values at source + k * stride.
template <class D>
HWY_INLINE hn::Vec<D> LoadBlocks(D d, const int16_t* source, size_t stride) {
  if constexpr (hn::MaxLanes(D()) == 8) {
    return hn::LoadU(d, source);
  } else {
    const hn::Half<D> dh;
    return hn::Combine(d, LoadBlocks(dh, source + hn::MaxLanes(dh) / 8 * stride, stride),
                       LoadBlocks(dh, source, stride));
  }
}

// magnitudes [head_dim][64] of x [64][head_dim].
inline void TransposeMagnitudes(const uint16_t* x, int head_dim, int16_t* magnitudes) {
  const MagnitudeTag d;
  const auto* source = reinterpret_cast<const int16_t*>(x);
  const auto sign_mask = hn::Set(d, 0x7fff);
  for (int token = 0; token < kBlockTokens; token += kMagnitudeLanes) {
    for (int channel = 0; channel < head_dim; channel += 8) {
      // Rows i, i + 8, ... side by side, so that transposing 8 x 8 blocks yields runs of tokens.
      Magnitudes rows[8];
      for (int i = 0; i < 8; ++i) {
        rows[i] = LoadBlocks(d, source + (token + i) * head_dim + channel, size_t{8} * head_dim);
        rows[i] = hn::And(rows[i], sign_mask);
      }
      // Each round rotates the bits of (row, column) by one; three exchange row and column.
      for (int round = 0; round < 3; ++round) {
        Magnitudes mixed[8];
        for (int i = 0; i < 4; ++i) {
          mixed[2 * i] = hn::InterleaveLower(d, rows[i], rows[i + 4]);
          mixed[2 * i + 1] = hn::InterleaveUpper(d, rows[i], rows[i + 4]);
        }
        std::copy(mixed, mixed + 8, rows);
      }
      for (int i = 0; i < 8; ++i) {
        hn::StoreU(rows[i], d, magnitudes + (channel + i) * kBlockTokens + token);
      }
    }
  }
}

// thresholds [64]: the kept-th largest magnitude of each token, found bit by bit from the highest,
// all tokens side by side.
inline void FindThresholds(const int16_t* magnitudes, int head_dim, int kept, int16_t* thresholds) {
  const MagnitudeTag d;
  constexpr int kVectors = kBlockTokens / kMagnitudeLanes;
  const auto one = hn::Set(d, 1);
  const auto kept_less_one = hn::Set(d, static_cast<int16_t>(kept - 1));
  Magnitudes threshold[kVectors];
  for (auto& t : threshold) t = hn::Zero(d);
  for (int bit = 0x4000; bit > 0; bit >>= 1) {
    Magnitudes below[kVectors];
    Magnitudes count[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      below[v] = hn::Add(threshold[v], hn::Set(d, static_cast<int16_t>(bit - 1)));
      count[v] = hn::Zero(d);
    }
    for (int channel = 0; channel < head_dim; ++channel) {
      for (int v = 0; v < kVectors; ++v) {
        const auto m = hn::Load(d, magnitudes + channel * kBlockTokens + v * kMagnitudeLanes);
        count[v] = hn::IfThenElse(hn::Gt(m, below[v]), hn::Add(count[v], one), count[v]);
      }
    }
    for (int v = 0; v < kVectors; ++v) {
      const auto raised = hn::Add(below[v], one);
      threshold[v] = hn::IfThenElse(hn::Gt(count[v], kept_less_one), raised, threshold[v]);
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    hn::StoreU(threshold[v], d, thresholds + v * kMagnitudeLanes);
  }
}

// bitmaps [64][head_dim / 64]: the `kept` channels of largest magnitude of each token, among equals
// the lower ones. kept < head_dim.
inline void Prune(const uint16_t* x, int head_dim, int kept, uint64_t* bitmaps) {
  const MagnitudeTag d;
  const int words = head_dim / 64;
  HWY_ALIGN int16_t magnitudes[256 * kBlockTokens];
  int16_t thresholds[kBlockTokens];
  TransposeMagnitudes(x, head_dim, magnitudes);
  FindThresholds(magnitudes, head_dim, kept, thresholds);

  // Bits above and at the threshold. Resolved in a second pass, when these stores, narrower than
  // the loads that follow, have left the store buffer.
  uint64_t ties[kBlockTokens * 4];
  for (int token = 0; token < kBlockTokens; ++token) {
    const auto threshold = hn::Set(d, thresholds[token]);
    auto* above_bytes = reinterpret_cast<uint8_t*>(bitmaps + token * words);
    auto* tie_bytes = reinterpret_cast<uint8_t*>(ties + token * words);
    for (int channel = 0; channel < head_dim; channel += kMagnitudeLanes) {
      const auto m = MagnitudesOf(x + token * head_dim + channel);
      hn::StoreMaskBits(d, hn::Gt(m, threshold), above_bytes + channel / 8);
      hn::StoreMaskBits(d, hn::Eq(m, threshold), tie_bytes + channel / 8);
    }
  }
  for (int token = 0; token < kBlockTokens; ++token) {
    int missing = kept;
    for (int w = 0; w < words; ++w) missing -= std::popcount(bitmaps[token * words + w]);
    for (int w = 0; w < words; ++w) {
      const uint64_t tied = ties[token * words + w];
      const int taken = std::min(missing, std::popcount(tied));
      // The lowest `taken` bits of `tied`: 0 to 64 of them.
      const uint64_t lowest = taken == 64 ? ~uint64_t{0} : (uint64_t{1} << taken) - 1;
      bitmaps[token * words + w] |= _pdep_u64(lowest, tied);
      missing -= taken;
    }
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace kvattend
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
