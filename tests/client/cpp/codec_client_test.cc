#include "client/cpp/codec_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "client/cpp/chunking.h"
#include "tests/client/cpp/test_server.h"

namespace kvattend::client {
namespace {

using ::testing::ElementsAre;

constexpr int64_t kHeadDim = 64;
// A block of one KV head as this test's server writes it: the first byte of each token's keys.
constexpr int64_t kBlockBytes = 64;

// Float16 [tokens, 1, 64], each byte of a token telling which one it is.
std::string MakeTensor(int64_t tokens) {
  std::string data;
  for (int64_t t = 0; t < tokens; ++t) data.append(2 * kHeadDim, static_cast<char>(t % 100));
  return data;
}

TensorView View(const std::string& data, int64_t tokens) {
  return {v1::DATA_TYPE_FLOAT16, {tokens, 1, kHeadDim}, AsBytes(absl::string_view(data))};
}

TEST(CodecClientTest, LongCachesAreChunkedByBlocksBothWays) {
  TestServer server;
  // Room for two blocks of keys and values (as float16).
  server.limits.set_max_message_bytes(kMessageHeadroomBytes + 2 * 2 * 64 * 2 * kHeadDim);
  std::vector<int64_t> compressed, decompressed;
  server.compress = [&](const auto&, const v1::CompressRequest& request,
                        v1::CompressResponse* response) {
    compressed.push_back(request.keys().shape(0));
    EXPECT_EQ(request.canonical().codec().preset(), "lean");
    EXPECT_EQ(static_cast<int64_t>(request.keys().data().size()),
              request.keys().shape(0) * 2 * kHeadDim);
    v1::CanonicalBlocks& blocks = *response->mutable_canonical();
    blocks.set_num_tokens(request.keys().shape(0));
    blocks.set_num_kv_heads(1);
    blocks.set_head_dim(kHeadDim);
    for (int64_t t = 0; t < request.keys().shape(0); ++t) {
      blocks.mutable_blocks()->push_back(request.keys().data()[t * 2 * kHeadDim]);
    }
    return grpc::Status::OK;
  };
  server.decompress = [&](const auto&, const v1::DecompressRequest& request,
                          v1::DecompressResponse* response) {
    decompressed.push_back(request.canonical().num_tokens());
    EXPECT_EQ(request.output_dtype(), v1::DATA_TYPE_FLOAT16);
    for (v1::Tensor* tensor : {response->mutable_keys(), response->mutable_values()}) {
      tensor->set_dtype(v1::DATA_TYPE_FLOAT16);
      tensor->add_shape(request.canonical().num_tokens());
      tensor->add_shape(1);
      tensor->add_shape(kHeadDim);
      for (char first : request.canonical().blocks()) {
        tensor->mutable_data()->append(2 * kHeadDim, first);
      }
    }
    return grpc::Status::OK;
  };

  const auto client = server.Connect();
  const CodecClient codec_client(*client);
  v1::Codec lean;
  lean.set_preset("lean");
  const std::string keys = MakeTensor(320);
  const auto blocks = codec_client.Compress(lean, View(keys, 320), View(keys, 320));
  ASSERT_TRUE(blocks.ok()) << blocks.status();
  EXPECT_THAT(compressed, ElementsAre(128, 128, 64));
  EXPECT_EQ(blocks->num_tokens(), 320);
  EXPECT_EQ(static_cast<int64_t>(blocks->blocks().size()), 5 * kBlockBytes);

  const auto cache = codec_client.Decompress(*blocks, v1::DATA_TYPE_FLOAT16);
  ASSERT_TRUE(cache.ok()) << cache.status();
  EXPECT_THAT(decompressed, ElementsAre(128, 128, 64));
  EXPECT_THAT(cache->keys.shape(), ElementsAre(320, 1, kHeadDim));
  EXPECT_EQ(cache->keys.data(), keys);
  EXPECT_EQ(cache->values.data(), keys);
}

TEST(CodecClientTest, RefusesWhatItCannotSlice) {
  TestServer server;
  const auto client = server.Connect();
  const CodecClient codec_client(*client);
  const std::string data = MakeTensor(64);
  const std::string partial = MakeTensor(63);
  const TensorView good = View(data, 64);
  TensorView flat = good;
  flat.shape = {64, kHeadDim};
  TensorView other_type = good;
  other_type.dtype = v1::DATA_TYPE_BFLOAT16;
  for (const auto& [keys, values] :
       std::vector<std::pair<TensorView, TensorView>>{{flat, flat},
                                                      {good, other_type},
                                                      {good, View(partial, 64)},
                                                      {View(partial, 63), View(partial, 63)},
                                                      {View("", 0), View("", 0)}}) {
    EXPECT_TRUE(absl::IsInvalidArgument(codec_client.Compress({}, keys, values).status()));
  }
  v1::CanonicalBlocks blocks;
  EXPECT_TRUE(absl::IsInvalidArgument(codec_client.Decompress(blocks).status()));
  blocks.set_num_tokens(128);
  blocks.set_blocks("abc");
  EXPECT_TRUE(absl::IsInvalidArgument(codec_client.Decompress(blocks).status()));
}

TEST(CodecClientTest, TilesGoThroughAsTheyAre) {
  TestServer server;
  server.compress = [](const auto&, const v1::CompressRequest& request,
                       v1::CompressResponse* response) {
    EXPECT_EQ(request.tiles().format(), v1::TILE_FORMAT_INT2_HEAD);
    EXPECT_EQ(request.tiles().num_heads(), 4);
    EXPECT_FALSE(request.has_keys());
    EXPECT_THAT(request.values().shape(), ElementsAre(64, 1, kHeadDim));
    response->mutable_value_tiles()->set_role(v1::TILE_ROLE_VALUE);
    return grpc::Status::OK;
  };
  server.decompress = [](const auto&, const v1::DecompressRequest& request,
                         v1::DecompressResponse* response) {
    EXPECT_EQ(request.tiles().role(), v1::TILE_ROLE_VALUE);
    response->mutable_values()->set_data("v");
    return grpc::Status::OK;
  };
  const auto client = server.Connect();
  const CodecClient codec_client(*client);
  v1::TileOptions options;
  options.set_format(v1::TILE_FORMAT_INT2_HEAD);
  options.set_num_heads(4);
  const std::string data = MakeTensor(64);
  const auto tiles = codec_client.CompressTiles(options, std::nullopt, View(data, 64));
  ASSERT_TRUE(tiles.ok()) << tiles.status();
  EXPECT_FALSE(tiles->keys.has_value());
  EXPECT_EQ(codec_client.DecompressTiles(*tiles->values)->data(), "v");
}

}  // namespace
}  // namespace kvattend::client
