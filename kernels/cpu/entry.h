// Conversions at the border: what requests carry into what backends take, and answers back.
//
// Those typed `void` may have any alignment (requests arrive in slices that end anywhere); sources
// and destinations must not overlap. Little-endian. Runs near memory speed.
//
// Thread-safe: pure functions. They need the default rounding mode (to nearest, ties to even).
#ifndef KVATTEND_KERNELS_CPU_ENTRY_H_
#define KVATTEND_KERNELS_CPU_ENTRY_H_

#include <cstddef>
#include <cstdint>
#include <optional>

namespace kvattend {

enum class FloatType { kFloat16, kBfloat16, kFloat32 };

constexpr size_t FloatTypeBytes(FloatType type) { return type == FloatType::kFloat32 ? 4 : 2; }

// Rounds `count` values of `type` at `source` to float16 (nearest, ties to even). Returns the index
// of the first value that is then not finite, if there is one; `destination` is unspecified from
// there on.
std::optional<size_t> ConvertToHalf(FloatType type, const void* source, size_t count,
                                    uint16_t* destination);

// Widens `count` values of `type` at `source` to float32, exactly. Returns the index of the first
// value that is not finite, if there is one; `destination` is unspecified from there on.
std::optional<size_t> ConvertToFloat(FloatType type, const void* source, size_t count,
                                     float* destination);

// Rounds `count` float32 values to `type` (nearest, ties to even). Finite values stay finite: those
// beyond the range become its largest value. Infinities and NaNs stay what they are.
void ConvertFromFloat(FloatType type, const float* source, size_t count, void* destination);

}  // namespace kvattend

#endif  // KVATTEND_KERNELS_CPU_ENTRY_H_
