#include "kernels/cpu/bit_stream.h"

#include <vector>

#include "gtest/gtest.h"
#include "tests/support/random_tensors.h"

namespace kvattend {
namespace {

struct Field {
  uint64_t bits;
  int count;
};

uint64_t LowBits(uint64_t bits, int count) {
  return count == 64 ? bits : bits & ((uint64_t{1} << count) - 1);
}

// Random fields that end on a word.
std::vector<Field> RandomFields(uint64_t seed, int most, int unit) {
  testing::RandomStream random(seed);
  std::vector<Field> fields;
  int total = 0;
  while (fields.size() < 500 || total % 64 != 0) {
    const int count = unit * static_cast<int>(random.Integer(0, most / unit));
    if (fields.size() >= 500 && total % 64 + count > 64) continue;
    fields.push_back({LowBits(random.Next(), count), count});
    total += count;
  }
  return fields;
}

// Bit by bit, the order that the writer must keep.
std::vector<uint8_t> Expected(const std::vector<Field>& fields) {
  std::vector<uint8_t> bytes;
  size_t position = 0;
  for (const Field& field : fields) {
    for (int i = 0; i < field.count; ++i, ++position) {
      if (position % 8 == 0) bytes.push_back(0);
      bytes.back() |= static_cast<uint8_t>(((field.bits >> i) & 1) << (position % 8));
    }
  }
  return bytes;
}

TEST(BitStreamTest, WritesFieldsOneAfterTheOther) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const std::vector<Field> fields = RandomFields(seed, 64, 1);
    const std::vector<uint8_t> expected = Expected(fields);
    std::vector<uint8_t> bytes(expected.size() + 8, 0xa5);
    BitWriter writer(bytes.data());
    for (const Field& field : fields) writer.Append(field.bits, field.count);
    bytes.resize(expected.size());
    ASSERT_EQ(bytes, expected) << seed;
  }
}

TEST(BitStreamTest, ReadsFieldsOneAfterTheOther) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    // Short fields of any length, or long ones of whole bytes.
    const bool whole_bytes = seed % 2 == 1;
    const std::vector<Field> fields =
        RandomFields(seed, whole_bytes ? 64 : 57, whole_bytes ? 8 : 1);
    std::vector<uint8_t> bytes = Expected(fields);
    bytes.resize(bytes.size() + 8, 0xa5);
    BitReader reader(bytes.data());
    for (const Field& field : fields) {
      ASSERT_EQ(LowBits(reader.Take(field.count), field.count), field.bits) << seed;
    }
  }
}

}  // namespace
}  // namespace kvattend
