// What code that takes blocks of 64 tokens is tested with.
//
// Thread-safe: pure functions.
#ifndef KVATTEND_TESTS_SUPPORT_BLOCK_INPUTS_H_
#define KVATTEND_TESTS_SUPPORT_BLOCK_INPUTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/codec/codec_spec.h"

namespace kvattend::testing {

struct BlockInput {
  std::string name;
  // Finite float16 patterns [64, head_dim].
  std::vector<uint16_t> x;
};

// One of every kind: ordinary, heavy-tailed, constant, zero, subnormal, tied, with outliers.
std::vector<BlockInput> BlockInputs(uint64_t seed, int head_dim);

// The presets at every head dimension.
std::vector<CodecSpec> AllPresetCodecs();

// Valid codecs with any kept and bits, the extremes of `kept` among them.
std::vector<CodecSpec> RandomCodecs(uint64_t seed, int count);

// "head_dim 128, keys 38 at 4, values 128 at 2".
std::string Describe(const CodecSpec& codec);

}  // namespace kvattend::testing

#endif  // KVATTEND_TESTS_SUPPORT_BLOCK_INPUTS_H_
