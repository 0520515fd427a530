#include "kernels/cpu/entry.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/half.h"
#include "tests/support/random_tensors.h"
#include "tests/support/simd_test.h"

namespace kvattend {
namespace {

constexpr FloatType kTypes[] = {FloatType::kFloat16, FloatType::kBfloat16, FloatType::kFloat32};
constexpr uint16_t kPoisonHalf = 0x7e55;

class EntryTest : public testing::SimdTest {};
INSTANTIATE_TEST_SUITE_P(Targets, EntryTest, testing::SimdTest::Targets(),
                         testing::SimdTest::TargetName);

std::vector<uint16_t> AllPatterns() {
  std::vector<uint16_t> patterns(65536);
  for (size_t i = 0; i < patterns.size(); ++i) patterns[i] = static_cast<uint16_t>(i);
  return patterns;
}

// Floats around everything that rounding to float16 and bfloat16 has to get right.
std::vector<float> SpecialFloats() {
  std::vector<float> floats;
  const auto add_around = [&](float x) {
    for (const float y : {x, -x}) {
      floats.push_back(y);
      floats.push_back(std::nextafter(y, INFINITY));
      floats.push_back(std::nextafter(y, -INFINITY));
    }
  };
  // Every finite float16 and the half-way point above it.
  for (uint16_t half = 0; half < 0x7c00; ++half) {
    const float x = HalfToFloat(half);
    const float next = half == kMaxHalfBits ? 65536.0f : HalfToFloat(half + 1);
    add_around(x);
    add_around((x + next) / 2);
  }
  // The same for bfloat16: values, and half-way points by their patterns.
  for (uint32_t high = 0; high < 0x7f80; high += 7) {
    add_around(std::bit_cast<float>(high << 16));
    add_around(std::bit_cast<float>((high << 16) | 0x8000));
  }
  add_around(std::numeric_limits<float>::max());
  add_around(std::numeric_limits<float>::min());
  add_around(std::numeric_limits<float>::denorm_min());
  testing::RandomStream random(11);
  for (int i = 0; i < 200000; ++i) {
    floats.push_back(std::bit_cast<float>(static_cast<uint32_t>(random.Next())));
  }
  return floats;
}

float ReferenceToFloat(FloatType type, const uint8_t* source, size_t index) {
  uint16_t half;
  float value;
  if (type == FloatType::kFloat32) {
    std::memcpy(&value, source + 4 * index, 4);
    return value;
  }
  std::memcpy(&half, source + 2 * index, 2);
  return type == FloatType::kFloat16 ? HalfToFloat(half) : Bfloat16ToFloat(half);
}

// Converts value after value, skipping those that are refused, and compares with the scalar code.
void ExpectAsReference(FloatType type, const std::vector<uint8_t>& source) {
  const size_t count = source.size() / FloatTypeBytes(type);
  std::vector<uint16_t> halves(count, kPoisonHalf);
  std::vector<float> floats(count, std::nanf(""));
  for (size_t begin = 0; begin < count;) {
    const auto refused = ConvertToHalf(type, source.data() + begin * FloatTypeBytes(type),
                                       count - begin, halves.data() + begin);
    const size_t end = refused ? begin + *refused : count;
    for (size_t i = begin; i < end; ++i) {
      const float value = ReferenceToFloat(type, source.data(), i);
      ASSERT_EQ(halves[i], FloatToHalf(value)) << "value " << value << " at " << i;
      ASSERT_TRUE(IsFiniteHalf(halves[i]));
    }
    if (refused) {
      ASSERT_FALSE(IsFiniteHalf(FloatToHalf(ReferenceToFloat(type, source.data(), end))));
    }
    begin = end + 1;
  }
  for (size_t begin = 0; begin < count;) {
    const auto refused = ConvertToFloat(type, source.data() + begin * FloatTypeBytes(type),
                                        count - begin, floats.data() + begin);
    const size_t end = refused ? begin + *refused : count;
    for (size_t i = begin; i < end; ++i) {
      ASSERT_EQ(std::bit_cast<uint32_t>(floats[i]),
                std::bit_cast<uint32_t>(ReferenceToFloat(type, source.data(), i)));
      ASSERT_TRUE(std::isfinite(floats[i]));
    }
    if (refused) {
      ASSERT_FALSE(std::isfinite(ReferenceToFloat(type, source.data(), end)));
    }
    begin = end + 1;
  }
}

template <typename T>
std::vector<uint8_t> BytesOf(const std::vector<T>& values) {
  std::vector<uint8_t> bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

TEST_P(EntryTest, TakesEveryPatternOf16Bits) {
  ExpectAsReference(FloatType::kFloat16, BytesOf(AllPatterns()));
  ExpectAsReference(FloatType::kBfloat16, BytesOf(AllPatterns()));
}

TEST_P(EntryTest, RoundsFloatsAsTheScalarCode) {
  // The finite ones first: each value that is refused starts a new conversion.
  std::vector<float> finite;
  std::vector<float> refused;
  for (const float x : SpecialFloats()) {
    (IsFiniteHalf(FloatToHalf(x)) ? finite : refused).push_back(x);
  }
  refused.resize(5000);
  ExpectAsReference(FloatType::kFloat32, BytesOf(finite));
  ExpectAsReference(FloatType::kFloat32, BytesOf(refused));
}

TEST_P(EntryTest, RefusesWhatRoundsToInfinity) {
  const auto converts = [](float x) {
    std::vector<float> source(40, x);
    std::vector<uint16_t> destination(40, kPoisonHalf);
    const auto refused = ConvertToHalf(FloatType::kFloat32, source.data(), 40, destination.data());
    return !refused.has_value() && destination[39] == FloatToHalf(x);
  };
  EXPECT_TRUE(converts(65519.996f));
  EXPECT_TRUE(converts(-65519.996f));
  EXPECT_FALSE(converts(65520.0f));
  EXPECT_FALSE(converts(-65520.0f));
  EXPECT_FALSE(converts(INFINITY));
  EXPECT_FALSE(converts(std::nanf("")));
}

// Every length and alignment; nothing past the end is written.
TEST_P(EntryTest, TakesEveryLengthUnaligned) {
  testing::RandomStream random(5);
  std::vector<uint8_t> source(4 * 140);
  for (const FloatType type : kTypes) {
    for (size_t count = 0; count <= 130; ++count) {
      const size_t offset = count % 5;
      for (size_t i = 0; i < count; ++i) {
        const float value = static_cast<float>(random.Gaussian());
        ConvertFromFloat(type, &value, 1, source.data() + offset + i * FloatTypeBytes(type));
      }
      std::vector<uint16_t> halves(count + 64, kPoisonHalf);
      std::vector<float> floats(count + 64, -7.0f);
      EXPECT_EQ(ConvertToHalf(type, source.data() + offset, count, halves.data()), std::nullopt);
      EXPECT_EQ(ConvertToFloat(type, source.data() + offset, count, floats.data()), std::nullopt);
      for (size_t i = 0; i < count; ++i) {
        const float expected = ReferenceToFloat(type, source.data() + offset, i);
        ASSERT_EQ(halves[i], FloatToHalf(expected)) << count << " " << i;
        ASSERT_EQ(floats[i], expected) << count << " " << i;
      }
      for (size_t i = count; i < count + 64; ++i) {
        ASSERT_EQ(halves[i], kPoisonHalf) << count;
        ASSERT_EQ(floats[i], -7.0f) << count;
      }
    }
  }
}

TEST_P(EntryTest, FindsTheFirstThatIsNotFinite) {
  for (const FloatType type : kTypes) {
    // Longer than a chunk; the second bad one must not be the one that is found.
    const size_t count = 9000;
    std::vector<float> values(count, 1.5f);
    std::vector<uint8_t> source(count * FloatTypeBytes(type));
    std::vector<uint16_t> halves(count);
    std::vector<float> floats(count);
    for (size_t position :
         {0, 1, 15, 16, 31, 32, 33, 63, 64, 100, 4095, 4096, 4097, 8191, 8192, 8990, 8999}) {
      for (const float bad : {INFINITY, -INFINITY, std::nanf("")}) {
        std::vector<float> with_bad = values;
        with_bad[position] = bad;
        if (position + 3 < count) with_bad[position + 3] = bad;
        ConvertFromFloat(type, with_bad.data(), count, source.data());
        EXPECT_EQ(ConvertToHalf(type, source.data(), count, halves.data()), position);
        EXPECT_EQ(ConvertToFloat(type, source.data(), count, floats.data()), position);
      }
    }
  }
}

TEST_P(EntryTest, AnswersInFloat16) {
  const std::vector<float> source = SpecialFloats();
  std::vector<uint16_t> halves(source.size(), kPoisonHalf);
  ConvertFromFloat(FloatType::kFloat16, source.data(), source.size(), halves.data());
  for (size_t i = 0; i < source.size(); ++i) {
    if (std::isfinite(source[i])) {
      ASSERT_EQ(halves[i], FloatToHalfSaturating(source[i])) << source[i];
    } else {
      ASSERT_EQ(halves[i], FloatToHalf(source[i])) << source[i];
    }
  }
}

TEST_P(EntryTest, AnswersInBfloat16) {
  const std::vector<float> source = SpecialFloats();
  std::vector<uint16_t> patterns(source.size(), 0);
  ConvertFromFloat(FloatType::kBfloat16, source.data(), source.size(), patterns.data());
  for (size_t i = 0; i < source.size(); ++i) {
    const double x = source[i];
    const float y = Bfloat16ToFloat(patterns[i]);
    if (!std::isfinite(x)) {
      ASSERT_EQ(std::isnan(x), std::isnan(y));
      ASSERT_TRUE(std::isnan(x) || x == y) << x;
      continue;
    }
    ASSERT_TRUE(std::isfinite(y)) << x;
    ASSERT_EQ(std::signbit(x), std::signbit(y)) << x;
    // No neighbour is nearer, and of two equally near ones the even pattern was taken.
    for (const int step : {-1, 1}) {
      const auto neighbour_pattern = static_cast<uint16_t>(patterns[i] + step);
      if (((neighbour_pattern ^ patterns[i]) & 0x8000) != 0) continue;
      const double neighbour = Bfloat16ToFloat(neighbour_pattern);
      if (!std::isfinite(neighbour)) continue;
      ASSERT_LE(std::abs(x - y), std::abs(x - neighbour)) << x;
      const bool is_tie = std::abs(x - y) == std::abs(x - neighbour);
      ASSERT_TRUE(!is_tie || patterns[i] % 2 == 0) << x;
    }
  }
}

TEST_P(EntryTest, AnswersInFloat32AreCopies) {
  const std::vector<float> source = SpecialFloats();
  std::vector<float> copy(source.size());
  ConvertFromFloat(FloatType::kFloat32, source.data(), source.size(), copy.data());
  EXPECT_EQ(std::memcmp(source.data(), copy.data(), source.size() * sizeof(float)), 0);
}

TEST_P(EntryTest, AnswersOfEveryLengthUnaligned) {
  const std::vector<float> source = testing::ToFloats(testing::GaussianTensor(3, 131));
  for (const FloatType type : kTypes) {
    for (size_t count = 0; count <= 130; ++count) {
      const size_t size = count * FloatTypeBytes(type);
      std::vector<uint8_t> destination(size + 80, 0xa5);
      uint8_t* begin = destination.data() + count % 3;
      ConvertFromFloat(type, source.data(), count, begin);
      for (size_t i = 0; i < count; ++i) {
        std::vector<uint8_t> expected(FloatTypeBytes(type));
        ConvertFromFloat(type, &source[i], 1, expected.data());
        ASSERT_EQ(std::memcmp(begin + i * FloatTypeBytes(type), expected.data(), expected.size()),
                  0);
      }
      for (const uint8_t* p = begin + size; p != destination.data() + destination.size(); ++p) {
        ASSERT_EQ(*p, 0xa5);
      }
    }
  }
}

}  // namespace
}  // namespace kvattend
