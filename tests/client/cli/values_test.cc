#include "client/cli/values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/cli/arguments.h"

namespace kvattend::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

TEST(ValuesTest, ParseBytes) {
  EXPECT_EQ(ParseBytes("80GiB").value(), int64_t{80} << 30);
  EXPECT_EQ(ParseBytes("512 MiB").value(), int64_t{512} << 20);
  EXPECT_EQ(ParseBytes("1.5kib").value(), 1536);
  EXPECT_EQ(ParseBytes("24GB").value(), 24'000'000'000);
  EXPECT_EQ(ParseBytes("2e9").value(), 2'000'000'000);
  EXPECT_EQ(ParseBytes("64M").value(), 64'000'000);
  EXPECT_EQ(ParseBytes("17").value(), 17);
  EXPECT_EQ(ParseBytes("17 B").value(), 17);
  for (const char* text : {"", "GiB", "-1", "0", "1 parsec", "nan", "inf", "1e300", "80E"}) {
    EXPECT_TRUE(IsUsageError(ParseBytes(text).status())) << text;
  }
}

TEST(ValuesTest, ParseDimensions) {
  EXPECT_THAT(ParseDimensions("layers=32, kv_heads=8").value(),
              ElementsAre(Pair("layers", 32), Pair("kv_heads", 8)));
  for (const char* text : {"", "layers", "layers=", "layers=0", "layers=-1", "a=1,a=2", "=3",
                           "layers=1.5", "a=1,", "a=99999999999999"}) {
    EXPECT_TRUE(IsUsageError(ParseDimensions(text).status())) << text;
  }
}

TEST(ValuesTest, ParseCodec) {
  EXPECT_EQ(ParseCodec("balanced")->preset(), "balanced");
  const v1::Codec codec = ParseCodec("38@4/128@2").value();
  EXPECT_EQ(codec.preset(), "");
  EXPECT_EQ(CodecText(codec), "38@4 / 128@2");
  for (const char* text : {"38@4", "38@4/128", "a@b/c@d", "1@2/3@4/5@6"}) {
    EXPECT_TRUE(IsUsageError(ParseCodec(text).status())) << text;
  }
}

TEST(ValuesTest, DataTypesByName) {
  for (v1::DataType dtype :
       {v1::DATA_TYPE_FLOAT16, v1::DATA_TYPE_BFLOAT16, v1::DATA_TYPE_FLOAT32}) {
    EXPECT_EQ(ParseDataType(DataTypeText(dtype)).value(), dtype);
  }
  EXPECT_TRUE(IsUsageError(ParseDataType("float64").status()));
}

TEST(ValuesTest, TextOfFigures) {
  EXPECT_EQ(BytesText(0), "0 B");
  EXPECT_EQ(BytesText(1023), "1023 B");
  EXPECT_EQ(BytesText(1536), "1.50 KiB");
  EXPECT_EQ(BytesText(int64_t{80} << 30), "80.00 GiB");
  EXPECT_EQ(BytesText(int64_t{5000} << 40), "5000.00 TiB");
  EXPECT_EQ(CountText(0), "0");
  EXPECT_EQ(CountText(999), "999");
  EXPECT_EQ(CountText(92312), "92,312");
  EXPECT_EQ(CountText(-1234567), "-1,234,567");
  EXPECT_EQ(CountText(-123), "-123");
  EXPECT_EQ(DurationText(absl::Nanoseconds(12'340)), "12.3 us");
  EXPECT_EQ(DurationText(absl::Microseconds(4560)), "4.56 ms");
  EXPECT_EQ(DurationText(absl::Milliseconds(1234)), "1.23 s");
}

}  // namespace
}  // namespace kvattend::cli
