#include "kernels/cpu/entry.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/base/half.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/entry.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace kvattend {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

// Values are addressed by bytes, since sources and destinations may be unaligned.

template <typename T>
T LoadScalar(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

template <typename T>
void StoreScalar(T value, uint8_t* bytes) {
  std::memcpy(bytes, &value, sizeof(value));
}

template <FloatType kType>
float ScalarToFloat(const uint8_t* source) {
  if constexpr (kType == FloatType::kFloat16) return HalfToFloat(LoadScalar<uint16_t>(source));
  if constexpr (kType == FloatType::kBfloat16) return Bfloat16ToFloat(LoadScalar<uint16_t>(source));
  return LoadScalar<float>(source);
}

template <FloatType kType>
uint16_t ScalarToHalf(const uint8_t* source) {
  if constexpr (kType == FloatType::kFloat16) return LoadScalar<uint16_t>(source);
  return FloatToHalf(ScalarToFloat<kType>(source));
}

// The largest finite value of a 16-bit type.
template <FloatType kType>
constexpr float kLargest = kType == FloatType::kFloat16 ? kMaxHalf
                                                        : std::bit_cast<float>(0x7f7f0000u);

template <FloatType kType>
uint16_t ScalarFromFloat(float value) {
  if (std::isfinite(value)) value = std::clamp(value, -kLargest<kType>, kLargest<kType>);
  if constexpr (kType == FloatType::kFloat16) return FloatToHalf(value);
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) return static_cast<uint16_t>((bits >> 16) | 0x0040);  // quiet
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// Better targets have lower bits. All from AVX2 on convert float16 in hardware; for the others the
// scalar code does.
#if HWY_TARGET <= HWY_AVX2

using FloatTag = hn::ScalableTag<float>;
using BitsTag = hn::RebindToUnsigned<FloatTag>;
using Floats = hn::Vec<FloatTag>;
// As many float16 patterns as there are floats in a vector, and twice as many.
using NarrowTag = hn::Rebind<uint16_t, FloatTag>;
using HalfTag = hn::ScalableTag<uint16_t>;

HWY_INLINE hn::Vec<NarrowTag> RoundToHalf(Floats x) {
  return hn::BitCast(NarrowTag(), hn::DemoteTo(hn::Rebind<hwy::float16_t, FloatTag>(), x));
}

template <FloatType kType>
HWY_INLINE Floats VectorToFloat(const uint8_t* source) {
  if constexpr (kType == FloatType::kFloat32) {
    return hn::LoadU(FloatTag(), reinterpret_cast<const float*>(source));
  } else {
    const auto x = hn::LoadU(NarrowTag(), reinterpret_cast<const uint16_t*>(source));
    if constexpr (kType == FloatType::kFloat16) {
      return hn::PromoteTo(FloatTag(), hn::BitCast(hn::Rebind<hwy::float16_t, FloatTag>(), x));
    } else {
      return hn::BitCast(FloatTag(), hn::ShiftLeft<16>(hn::PromoteTo(BitsTag(), x)));
    }
  }
}

template <FloatType kType>
HWY_INLINE hn::Vec<HalfTag> VectorToHalf(const uint8_t* source) {
  if constexpr (kType == FloatType::kFloat16) {
    return hn::LoadU(HalfTag(), reinterpret_cast<const uint16_t*>(source));
  } else {
    const auto lower = VectorToFloat<kType>(source);
    const auto upper = VectorToFloat<kType>(source + hn::Lanes(FloatTag()) * FloatTypeBytes(kType));
    return hn::Combine(HalfTag(), RoundToHalf(upper), RoundToHalf(lower));
  }
}

template <FloatType kType>
HWY_INLINE hn::Vec<NarrowTag> VectorFromFloat(Floats x) {
  const auto is_finite = hn::Lt(hn::Abs(x), hn::Set(FloatTag(), INFINITY));
  const auto clamped = hn::Min(hn::Max(x, hn::Set(FloatTag(), -kLargest<kType>)),
                               hn::Set(FloatTag(), kLargest<kType>));
  x = hn::IfThenElse(is_finite, clamped, x);
  if constexpr (kType == FloatType::kFloat16) return RoundToHalf(x);
  const BitsTag d;
  const auto bits = hn::BitCast(d, x);
  const auto high = hn::ShiftRight<16>(bits);
  const auto odd = hn::And(high, hn::Set(d, 1));
  const auto rounded = hn::ShiftRight<16>(hn::Add(hn::Add(bits, hn::Set(d, 0x7fff)), odd));
  const auto quiet_nan = hn::Or(high, hn::Set(d, 0x0040));
  return hn::TruncateTo(NarrowTag(),
                        hn::IfThenElse(hn::RebindMask(d, hn::IsNaN(x)), quiet_nan, rounded));
}

#endif  // HWY_TARGET <= HWY_AVX2

// Whether all results are finite.
template <FloatType kType>
bool ToHalf(const uint8_t* source, size_t count, uint16_t* destination) {
  size_t i = 0;
  bool all_finite = true;
#if HWY_TARGET <= HWY_AVX2
  const HalfTag d;
  auto largest = hn::Zero(d);
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto halves = VectorToHalf<kType>(source + i * FloatTypeBytes(kType));
    hn::StoreU(halves, d, destination + i);
    largest = hn::Max(largest, hn::And(halves, hn::Set(d, 0x7fff)));
  }
  all_finite = hn::AllTrue(d, hn::Lt(largest, hn::Set(d, 0x7c00)));
#endif
  for (; i < count; ++i) {
    destination[i] = ScalarToHalf<kType>(source + i * FloatTypeBytes(kType));
    all_finite &= IsFiniteHalf(destination[i]);
  }
  return all_finite;
}

// Whether all results are finite.
template <FloatType kType>
bool ToFloat(const uint8_t* source, size_t count, float* destination) {
  size_t i = 0;
  bool all_finite = true;
#if HWY_TARGET <= HWY_AVX2
  const BitsTag d;
  auto largest = hn::Zero(d);
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto floats = VectorToFloat<kType>(source + i * FloatTypeBytes(kType));
    hn::StoreU(floats, FloatTag(), destination + i);
    largest = hn::Max(largest, hn::BitCast(d, hn::Abs(floats)));
  }
  all_finite = hn::AllTrue(d, hn::Lt(largest, hn::Set(d, 0x7f800000)));
#endif
  for (; i < count; ++i) {
    destination[i] = ScalarToFloat<kType>(source + i * FloatTypeBytes(kType));
    all_finite &= std::isfinite(destination[i]);
  }
  return all_finite;
}

template <FloatType kType>
void FromFloat(const float* source, size_t count, uint8_t* destination) {
  size_t i = 0;
#if HWY_TARGET <= HWY_AVX2
  const FloatTag d;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    hn::StoreU(VectorFromFloat<kType>(hn::LoadU(d, source + i)), NarrowTag(),
               reinterpret_cast<uint16_t*>(destination + i * FloatTypeBytes(kType)));
  }
#endif
  for (; i < count; ++i) {
    StoreScalar(ScalarFromFloat<kType>(source[i]), destination + i * FloatTypeBytes(kType));
  }
}

bool ToHalfOfType(FloatType type, const uint8_t* source, size_t count, uint16_t* destination) {
  switch (type) {
    case FloatType::kFloat16:
      return ToHalf<FloatType::kFloat16>(source, count, destination);
    case FloatType::kBfloat16:
      return ToHalf<FloatType::kBfloat16>(source, count, destination);
    case FloatType::kFloat32:
      return ToHalf<FloatType::kFloat32>(source, count, destination);
  }
  return false;
}

bool ToFloatOfType(FloatType type, const uint8_t* source, size_t count, float* destination) {
  switch (type) {
    case FloatType::kFloat16:
      return ToFloat<FloatType::kFloat16>(source, count, destination);
    case FloatType::kBfloat16:
      return ToFloat<FloatType::kBfloat16>(source, count, destination);
    case FloatType::kFloat32:
      return ToFloat<FloatType::kFloat32>(source, count, destination);
  }
  return false;
}

void FromFloatOfType(FloatType type, const float* source, size_t count, uint8_t* destination) {
  switch (type) {
    case FloatType::kFloat16:
      return FromFloat<FloatType::kFloat16>(source, count, destination);
    case FloatType::kBfloat16:
      return FromFloat<FloatType::kBfloat16>(source, count, destination);
    case FloatType::kFloat32:
      std::memcpy(destination, source, count * sizeof(float));
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace kvattend
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvattend {
namespace {

HWY_EXPORT(ToHalfOfType);
HWY_EXPORT(ToFloatOfType);
HWY_EXPORT(FromFloatOfType);

// Converts chunk by chunk, so that looking for the first value that is not finite stays short.
// convert(begin, size) says whether all are; is_finite(i) whether result i is.
template <typename Convert, typename IsFinite>
std::optional<size_t> ConvertInChunks(size_t count, Convert convert, IsFinite is_finite) {
  constexpr size_t kChunk = 4096;
  for (size_t begin = 0; begin < count; begin += kChunk) {
    const size_t size = std::min(kChunk, count - begin);
    if (convert(begin, size)) continue;
    for (size_t i = begin; i < begin + size; ++i) {
      if (!is_finite(i)) return i;
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<size_t> ConvertToHalf(FloatType type, const void* source, size_t count,
                                    uint16_t* destination) {
  const auto* bytes = static_cast<const uint8_t*>(source);
  return ConvertInChunks(
      count,
      [&](size_t begin, size_t size) {
        return HWY_DYNAMIC_DISPATCH(ToHalfOfType)(type, bytes + begin * FloatTypeBytes(type), size,
                                                  destination + begin);
      },
      [&](size_t i) { return IsFiniteHalf(destination[i]); });
}

std::optional<size_t> ConvertToFloat(FloatType type, const void* source, size_t count,
                                     float* destination) {
  const auto* bytes = static_cast<const uint8_t*>(source);
  return ConvertInChunks(
      count,
      [&](size_t begin, size_t size) {
        return HWY_DYNAMIC_DISPATCH(ToFloatOfType)(type, bytes + begin * FloatTypeBytes(type), size,
                                                   destination + begin);
      },
      [&](size_t i) { return std::isfinite(destination[i]); });
}

void ConvertFromFloat(FloatType type, const float* source, size_t count, void* destination) {
  HWY_DYNAMIC_DISPATCH(FromFloatOfType)(type, source, count, static_cast<uint8_t*>(destination));
}

}  // namespace kvattend
#endif  // HWY_ONCE
