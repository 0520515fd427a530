// `kvattend compress` and `kvattend info` against a running server.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>

#include "client/cli/files.h"
#include "client/cli/json.h"
#include "client/cpp/tensor.h"
#include "kvattend/v1/codec_service.pb.h"
#include "tests/client/cli/server_fixture.h"

namespace kvattend::cli {
namespace {

using ::testing::HasSubstr;

const std::string kKeys = std::string(KVATTEND_TEST_DATA_DIR) + "/golden/seed42_k.f16";
const std::string kValues = std::string(KVATTEND_TEST_DATA_DIR) + "/golden/seed42_v.f16";
constexpr char kShape[] = "--shape=kv_heads=8,tokens=256,head_dim=128";

class CompressCommandTest : public ServerFixture {
 protected:
  // The report of the keys and of the values.
  std::vector<Json> Compress(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"compress", "--format=json"});
    const CliOutcome outcome = Run(arguments);
    EXPECT_EQ(outcome.code, ExitCode::kOk) << outcome.err;
    const Json json = Json::parse(outcome.out, nullptr, false);
    if (!json.is_object()) return {Json(), Json()};
    return {json["tensors"][0], json["tensors"][1]};
  }
};

TEST_F(CompressCommandTest, CanonicalCodecs) {
  // Bytes of a block by the design: 2,496 + 2,176 a head.
  const std::vector<Json> balanced = Compress({kKeys, kValues, kShape});
  EXPECT_EQ(balanced[0]["role"], "keys");
  EXPECT_EQ(balanced[0]["bytes"], 8 * 4 * 2496);
  EXPECT_EQ(balanced[1]["bytes"], 8 * 4 * 2176);
  EXPECT_EQ(balanced[1]["dense_fp16_bytes"], 524'288);

  const std::vector<Json> exact = Compress({kKeys, kShape, "--codec=fp16"});
  for (const Json& row : exact) {
    EXPECT_EQ(row["bytes"], 524'288);
    EXPECT_EQ(row["relative_error"], 0.0);
    EXPECT_EQ(row["max_error"], 0.0);
  }
  const std::vector<Json> custom = Compress({kKeys, kValues, kShape, "--codec=38@16/128@8"});
  EXPECT_EQ(custom[0]["relative_error"], 0.0);
  EXPECT_GT(custom[1]["relative_error"], 0.0);
  EXPECT_LT(custom[1]["relative_error"], 0.03);
}

TEST_F(CompressCommandTest, ReferenceFormats) {
  EXPECT_EQ(Compress({kKeys, kShape, "--codec=mustafar-fp16"})[0]["bytes"], 233'808);
  EXPECT_EQ(Compress({kKeys, kShape, "--codec=mustafar-int2-tile"})[0]["bytes"], 110'580);
  EXPECT_EQ(Compress({kKeys, kShape, "--codec=mustafar-int2-head", "--num-heads=4"})[0]["bytes"],
            72'238);
}

TEST_F(CompressCommandTest, DimensionsInEitherOrder) {
  // The same cache with the tokens first.
  const std::string path = ::testing::TempDir() + "/kvattend_tokens_first.f16";
  ASSERT_TRUE(WriteFile(path, SwapOuterDimensions(ReadFile(kKeys).value(), 8, 256, 256)).ok());
  for (const char* codec : {"--codec=lean", "--codec=mustafar-int2-tile"}) {
    EXPECT_EQ(Compress({kKeys, kShape, codec})[0],
              Compress({path, "--shape=tokens=256,kv_heads=8,head_dim=128", codec})[0]);
  }
  std::remove(path.c_str());
}

TEST_F(CompressCommandTest, OtherTypes) {
  const std::vector<float> floats = client::ToFloats(
      v1::DATA_TYPE_FLOAT16, client::AsBytes(absl::string_view(ReadFile(kKeys).value())));
  const std::string path = ::testing::TempDir() + "/kvattend_keys.f32";
  ASSERT_TRUE(
      WriteFile(path, {reinterpret_cast<const char*>(floats.data()), floats.size() * sizeof(float)})
          .ok());
  EXPECT_EQ(Compress({path, "--dtype=float32", kShape})[0], Compress({kKeys, kShape})[0]);
  std::remove(path.c_str());
}

TEST_F(CompressCommandTest, OutputIsTheMessage) {
  const std::string path = ::testing::TempDir() + "/kvattend_blocks";
  Compress({kKeys, kShape, "--codec=int2", "--output=" + path});
  v1::CompressResponse message;
  ASSERT_TRUE(message.ParseFromString(ReadFile(path).value()));
  EXPECT_EQ(message.canonical().codec().preset(), "int2");
  EXPECT_EQ(message.canonical().blocks().size(), 8u * 4 * 4480);
  std::remove(path.c_str());
}

TEST_F(CompressCommandTest, RefusalsFail) {
  const CliOutcome codec = Run({"compress", kKeys, kShape, "--codec=gzip"});
  EXPECT_EQ(codec.code, ExitCode::kFailed);
  EXPECT_THAT(codec.err, HasSubstr("INVALID_CODEC"));
  const CliOutcome shape = Run({"compress", kKeys, "--shape=kv_heads=8,tokens=255,head_dim=128"});
  EXPECT_EQ(shape.code, ExitCode::kFailed);
  EXPECT_THAT(shape.err, HasSubstr("524288 bytes; its shape and type make 522240"));
  EXPECT_EQ(Run({"sessions", "nobody"}).code, ExitCode::kFailed);
}

TEST_F(CompressCommandTest, Info) {
  const CliOutcome text = Run({"info"});
  EXPECT_EQ(text.code, ExitCode::kOk) << text.err;
  EXPECT_THAT(text.out, HasSubstr("of 64.00 MiB used"));
  const Json json = Json::parse(Run({"info", "--format=json"}).out);
  EXPECT_EQ(json["device"]["kind"], "cpu");
  EXPECT_EQ(json["codecs"][0]["preset"], "balanced");
  EXPECT_EQ(json["kv_capacity_bytes"], int64_t{64} << 20);
  EXPECT_EQ(json["limits"]["max_message_bytes"], int64_t{64} << 20);
}

}  // namespace
}  // namespace kvattend::cli
