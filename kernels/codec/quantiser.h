// The numbers of the codec's arithmetic that every encoder and decoder shares; docs/formats.md says
// how they are used.
//
// Thread-safe: constants and pure functions.
#ifndef KVATTEND_KERNELS_CODEC_QUANTISER_H_
#define KVATTEND_KERNELS_CODEC_QUANTISER_H_

#include "kernels/codec/codec_spec.h"
#include "kernels/codec/equaliser.h"

namespace kvattend {

// What 2-bit codes of a format need.
struct TwoBitLevels {
  // Levels are +-s and +-ratio * s; ratio * s is exact in float32 for a float16 s.
  float ratio;
  // (1 + ratio) / 2: above this many s a magnitude takes the larger level. Exact likewise.
  float threshold;
  // The same border for the first guess, in sums of the magnitudes that a token keeps. Chosen so
  // that one refinement comes within 2 % of the least error on Gaussian vectors and, after pruning,
  // spares the channels that the equaliser brought far below the others.
  float first_border;
};

// For formats of 2 bits.
inline TwoBitLevels TwoBitLevelsOf(const VectorFormat& format, int head_dim) {
  const float ratio = TwoBitMagnitudeRatio(format, head_dim);
  const float mean_to_scale = ratio == 1.5f ? 0.8125f : ratio == 2.0f ? 0.71875f : 0.625f;
  const float threshold = (1.0f + ratio) / 2.0f;
  return {.ratio = ratio,
          .threshold = threshold,
          .first_border = mean_to_scale * threshold / static_cast<float>(format.kept)};
}

}  // namespace kvattend

#endif  // KVATTEND_KERNELS_CODEC_QUANTISER_H_
