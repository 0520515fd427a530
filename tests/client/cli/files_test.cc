#include "client/cli/files.h"

#include <gtest/gtest.h>

#include <cstdio>

#include "client/cli/reference_input.h"

namespace kvattend::cli {
namespace {

TEST(FilesTest, WriteThenRead) {
  const std::string path = ::testing::TempDir() + "/kvattend_files_test";
  for (const std::string& data : {std::string("a\0b\n", 4), std::string()}) {
    ASSERT_TRUE(WriteFile(path, data).ok());
    EXPECT_EQ(ReadFile(path).value(), data);
  }
  ASSERT_TRUE(WriteFile(path, "12345678").ok());
  EXPECT_TRUE(ReadTensorFile(path, 8).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(ReadTensorFile(path, 16).status()));
  std::remove(path.c_str());
}

TEST(FilesTest, WhatIsNotThere) {
  EXPECT_TRUE(absl::IsNotFound(ReadFile("/nonexistent/file").status()));
  EXPECT_TRUE(absl::IsNotFound(ReadFile("/").status()));
  EXPECT_FALSE(WriteFile("/nonexistent/file", "x").ok());
}

TEST(FilesTest, SwapOuterDimensions) {
  // [2, 3, rows of 2 bytes].
  EXPECT_EQ(SwapOuterDimensions("a0a1a2b0b1b2", 2, 3, 2), "a0b0a1b1a2b2");
  EXPECT_EQ(SwapOuterDimensions("a0b0a1b1a2b2", 3, 2, 2), "a0a1a2b0b1b2");
}

TEST(ReferenceInputTest, ReadsTheGoldenFolder) {
  const auto input = ReadReferenceInput(std::string(KVATTEND_TEST_DATA_DIR) + "/golden");
  ASSERT_TRUE(input.ok()) << input.status();
  EXPECT_EQ(input->key_floats.size(), 8u * 256 * 128);
  EXPECT_EQ(input->query_floats.size(), 8u * 128);
  EXPECT_EQ(input->figures["mustafar_fp16_key"]["bitmap_0_0"].get<int64_t>(), -4466983682215599831);
}

TEST(ReferenceInputTest, SaysWhatIsMissing) {
  EXPECT_TRUE(absl::IsNotFound(ReadReferenceInput(KVATTEND_TEST_DATA_DIR).status()));
}

}  // namespace
}  // namespace kvattend::cli
