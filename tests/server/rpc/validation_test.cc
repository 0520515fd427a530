#include "server/rpc/validation.h"

#include <cstdint>
#include <limits>
#include <string>

#include "gtest/gtest.h"
#include "tests/server/rpc/expect_error.h"

namespace kvattend {
namespace {

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

TEST(ValidationTest, FieldPathsNameTheItem) {
  EXPECT_EQ((FieldPath{"dtype"}.ToString()), "dtype");
  EXPECT_EQ((FieldPath{"layer", 3}.ToString()), "items[3].layer");
}

TEST(ValidationTest, QuoteEscapesAndTruncates) {
  EXPECT_EQ(Quote("a\"b\n\x01"), R"("a\"b\n\x01")");
  EXPECT_EQ(Quote(std::string(64, 'x')).size(), 66u);
  const std::string long_quote = Quote(std::string(1 << 20, '\xff'));
  EXPECT_LT(long_quote.size(), 300u);
  EXPECT_NE(long_quote.find("(1048576 bytes)"), std::string::npos);
}

TEST(ValidationTest, RangesIncludeBothEnds) {
  EXPECT_TRUE(CheckRange({"x"}, 1, 1, 3).ok());
  EXPECT_TRUE(CheckRange({"x"}, 3, 1, 3).ok());
  ExpectInvalid(CheckRange({"x"}, 0, 1, 3), "VALUE_OUT_OF_RANGE", "x");
  const absl::Status status = CheckRange({"x", 7}, 4, 1, 3);
  ExpectInvalid(status, "VALUE_OUT_OF_RANGE", "items[7].x");
  EXPECT_EQ(status.message(), "items[7].x: expected 1 to 3, found 4");
}

TEST(ValidationTest, NumItems) {
  EXPECT_TRUE(CheckNumItems(1, 4096).ok());
  EXPECT_TRUE(CheckNumItems(4096, 4096).ok());
  ExpectInvalid(CheckNumItems(0, 4096), "NO_ITEMS", "items");
  ExpectInvalid(CheckNumItems(4097, 4096), "TOO_MANY_ITEMS", "items");
}

TEST(ValidationTest, ProductsDoNotOverflow) {
  EXPECT_EQ(CheckedProduct({2, 3, 7}), 42);
  EXPECT_EQ(CheckedProduct({kMax, 1}), kMax);
  EXPECT_EQ(CheckedProduct({kMax, 0}), 0);
  EXPECT_FALSE(CheckedProduct({int64_t{1} << 32, int64_t{1} << 31}).has_value());
}

TEST(ValidationTest, ByteTotalsDoNotOverflow) {
  ByteTotal total;
  total.Add(10, 2);
  total.Add(1, 4);
  EXPECT_EQ(total.value(), 24);
  total.Add(kMax / 2, 2);
  EXPECT_FALSE(total.value().has_value());
  total.Add(1, 1);
  EXPECT_FALSE(total.value().has_value());
  ByteTotal unknown;
  unknown.Add(std::nullopt, 2);
  EXPECT_FALSE(unknown.value().has_value());
}

TEST(ValidationTest, ByteCounts) {
  EXPECT_TRUE(CheckByteCount({"keys"}, 24, 24).ok());
  ExpectInvalid(CheckByteCount({"keys"}, 24, 23), "BYTE_COUNT_MISMATCH", "keys");
  ExpectInvalid(CheckByteCount({"keys"}, std::nullopt, 0), "BYTE_COUNT_MISMATCH", "keys");
}

TEST(ValidationTest, AnswerSizes) {
  EXPECT_TRUE(CheckAnswerSize(100, 100).ok());
  const absl::Status status = CheckAnswerSize(101, 100);
  ExpectError(status, absl::StatusCode::kResourceExhausted, "RESPONSE_TOO_LARGE", "");
  EXPECT_EQ(MetadataOf(status).at("answer_bytes"), "101");
}

}  // namespace
}  // namespace kvattend
