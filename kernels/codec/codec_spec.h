// What a codec is: how keys and values of a session are pruned and quantised.
//
// The bitstream is specified in docs/formats.md. Thread-safe: plain values and pure functions.
#ifndef KVATTEND_KERNELS_CODEC_CODEC_SPEC_H_
#define KVATTEND_KERNELS_CODEC_CODEC_SPEC_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kvattend {

// Tokens of a compressed block.
inline constexpr int kBlockTokens = 64;

// How one kind of vector (key or value) is stored.
struct VectorFormat {
  // Channels kept of each vector, 1 to head_dim: those of largest magnitude.
  int kept = 0;
  // Bits a kept value takes: 16 (float16), 8, 4 or 2.
  int bits = 0;

  friend bool operator==(const VectorFormat&, const VectorFormat&) = default;
};

enum class VectorRole { kKey, kValue };

struct CodecSpec {
  // 64, 128 or 256.
  int head_dim = 0;
  VectorFormat keys;
  VectorFormat values;

  const VectorFormat& format(VectorRole role) const {
    return role == VectorRole::kKey ? keys : values;
  }

  friend bool operator==(const CodecSpec&, const CodecSpec&) = default;
};

// A codec with a name. `kept` is stated of 128 channels; other head dimensions keep the same share,
// rounded to the nearest.
struct CodecPreset {
  const char* name;
  VectorFormat keys;
  VectorFormat values;
};

inline constexpr char kDefaultPreset[] = "balanced";
// The name that a codec without a preset goes by.
inline constexpr char kCustomCodec[] = "custom";

// All presets, the default one first.
const std::vector<CodecPreset>& CodecPresets();

// INVALID_ARGUMENT naming the field (head_dim, keys.kept, keys.bits, values.kept, values.bits),
// what was expected and what was found.
absl::Status ValidateCodec(const CodecSpec& codec);

// The preset `name` at `head_dim`. INVALID_ARGUMENT listing the names where there is none.
absl::StatusOr<CodecSpec> CodecFromPreset(absl::string_view name, int head_dim);

// The name of the preset that `codec` equals, else kCustomCodec.
absl::string_view CodecName(const CodecSpec& codec);

// Levels of 2-bit codes are +-s and +-r*s; this is r: 1.5 while kept <= 0.45 head_dim, 2 up to
// 0.75, 3.25 above.
float TwoBitMagnitudeRatio(const VectorFormat& format, int head_dim);

}  // namespace kvattend

#endif  // KVATTEND_KERNELS_CODEC_CODEC_SPEC_H_
