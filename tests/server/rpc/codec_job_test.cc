#include "server/rpc/codec_job.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/half.h"
#include "kernels/codec/block_layout.h"
#include "kernels/codec/reference_codec.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/server/rpc/expect_error.h"
#include "tests/server/rpc/heap_staging.h"

namespace kvattend {
namespace {

constexpr int kTokens = 128;
constexpr int kHeads = 2;
constexpr int kDim = 64;

// float16 patterns of a wave, different for every seed.
std::vector<uint16_t> Wave(int count, float seed) {
  std::vector<uint16_t> halves(count);
  for (int i = 0; i < count; ++i) {
    halves[i] = FloatToHalf(std::sin(seed + 0.37f * static_cast<float>(i)));
  }
  return halves;
}

v1::Tensor MakeTensor(const std::vector<int64_t>& shape, const std::vector<uint16_t>& halves) {
  v1::Tensor tensor;
  tensor.set_dtype(v1::DATA_TYPE_FLOAT16);
  for (const int64_t dimension : shape) tensor.add_shape(dimension);
  tensor.set_data(halves.data(), halves.size() * sizeof(uint16_t));
  return tensor;
}

v1::CompressRequest CanonicalRequest() {
  v1::CompressRequest request;
  request.mutable_canonical()->mutable_codec()->set_preset("balanced");
  *request.mutable_keys() = MakeTensor({kTokens, kHeads, kDim}, Wave(kTokens * kHeads * kDim, 1));
  *request.mutable_values() = MakeTensor({kTokens, kHeads, kDim}, Wave(kTokens * kHeads * kDim, 2));
  return request;
}

v1::CompressRequest TilesRequest(v1::TileFormat format) {
  v1::CompressRequest request;
  request.mutable_tiles()->set_format(format);
  if (format == v1::TILE_FORMAT_INT2_HEAD) request.mutable_tiles()->set_num_heads(2);
  std::vector<uint16_t> halves = Wave(2 * kTokens * kDim, 3);
  for (size_t i = 0; i < halves.size(); i += 3) halves[i] = 0;
  *request.mutable_keys() = MakeTensor({2, kTokens, kDim}, halves);
  *request.mutable_values() = MakeTensor({2, kTokens, kDim}, halves);
  return request;
}

class CodecJobTest : public ::testing::Test {
 protected:
  v1::CompressResponse Compress(const v1::CompressRequest& request) {
    auto job = ParseCompress(request, Limits(), HeapStaging);
    EXPECT_TRUE(job.ok()) << job.status();
    EXPECT_TRUE((*job)->Run(*backend_).ok());
    return (*job)->TakeResponse();
  }
  v1::DecompressResponse Decompress(const v1::DecompressRequest& request) {
    auto job = ParseDecompress(request, Limits(), HeapStaging);
    EXPECT_TRUE(job.ok()) << job.status();
    EXPECT_TRUE((*job)->Run(*backend_).ok());
    return (*job)->TakeResponse();
  }

  const std::unique_ptr<Backend> backend_ =
      *CpuBackend::Create({.arena_bytes = uint64_t{4} << 20, .num_threads = 1});
};

std::vector<float> Floats(const v1::Tensor& tensor) {
  std::vector<float> floats(tensor.data().size() / sizeof(float));
  std::memcpy(floats.data(), tensor.data().data(), tensor.data().size());
  return floats;
}

TEST_F(CodecJobTest, CanonicalBlocksAreTheReferences) {
  const v1::CompressResponse compressed = Compress(CanonicalRequest());
  const v1::CanonicalBlocks& canonical = compressed.canonical();
  EXPECT_EQ(canonical.codec().preset(), "balanced");
  EXPECT_EQ(canonical.num_tokens(), kTokens);
  EXPECT_EQ(canonical.num_kv_heads(), kHeads);
  EXPECT_EQ(canonical.head_dim(), kDim);
  EXPECT_FALSE(compressed.has_key_tiles());

  const CodecSpec codec = *CodecFromPreset("balanced", kDim);
  const BlockLayout layout = MakeBlockLayout(codec);
  ASSERT_EQ(canonical.blocks().size(), kTokens / 64 * kHeads * layout.head_bytes);
  // The keys of block 1, head 1.
  const std::vector<uint16_t> keys = Wave(kTokens * kHeads * kDim, 1);
  std::vector<uint16_t> gathered;
  for (int token = 64; token < 128; ++token) {
    const auto begin = keys.begin() + (token * kHeads + 1) * kDim;
    gathered.insert(gathered.end(), begin, begin + kDim);
  }
  std::vector<uint8_t> part(layout.keys.size_bytes);
  EncodeReference(codec, VectorRole::kKey, gathered.data(), part.data());
  EXPECT_EQ(
      std::memcmp(part.data(), canonical.blocks().data() + 3 * layout.head_bytes, part.size()), 0);

  v1::DecompressRequest request;
  *request.mutable_canonical() = canonical;
  const v1::DecompressResponse dense = Decompress(request);
  EXPECT_EQ(dense.keys().dtype(), v1::DATA_TYPE_FLOAT32);
  ASSERT_EQ(dense.keys().shape_size(), 3);
  std::vector<float> expected(64 * kDim);
  DecodeReference(codec, VectorRole::kKey, part.data(), expected.data());
  const std::vector<float> decoded = Floats(dense.keys());
  for (int token = 0; token < 64; ++token) {
    for (int channel = 0; channel < kDim; ++channel) {
      ASSERT_EQ(decoded[((64 + token) * kHeads + 1) * kDim + channel],
                expected[token * kDim + channel]);
    }
  }
  EXPECT_EQ(dense.values().data().size(), dense.keys().data().size());
}

TEST_F(CodecJobTest, TilesComeBackAsTheyWere) {
  const v1::CompressRequest request = TilesRequest(v1::TILE_FORMAT_FP16);
  const v1::CompressResponse compressed = Compress(request);
  EXPECT_FALSE(compressed.has_canonical());
  for (const v1::Tiles& tiles : {compressed.key_tiles(), compressed.value_tiles()}) {
    EXPECT_EQ(tiles.format(), v1::TILE_FORMAT_FP16);
    EXPECT_EQ(tiles.bitmaps().size(), 2u * kTokens * kDim / 8);
    EXPECT_EQ(static_cast<size_t>(tiles.total_bytes()),
              tiles.bitmaps().size() + tiles.offsets().size() + tiles.packed().size());
    v1::DecompressRequest decompress;
    *decompress.mutable_tiles() = tiles;
    decompress.set_output_dtype(v1::DATA_TYPE_FLOAT16);
    const v1::DecompressResponse dense = Decompress(decompress);
    const bool is_key = tiles.role() == v1::TILE_ROLE_KEY;
    EXPECT_EQ(dense.has_keys(), is_key);
    EXPECT_EQ(dense.has_values(), !is_key);
    EXPECT_EQ((is_key ? dense.keys() : dense.values()).data(), request.keys().data());
  }
}

TEST_F(CodecJobTest, EveryTileFormatTravels) {
  for (const v1::TileFormat format : {v1::TILE_FORMAT_INT2_TILE, v1::TILE_FORMAT_INT2_HEAD}) {
    const v1::Tiles tiles = Compress(TilesRequest(format)).key_tiles();
    EXPECT_EQ(tiles.scales().empty(), false);
    EXPECT_EQ(tiles.zeros().empty(), format == v1::TILE_FORMAT_INT2_HEAD);
    v1::DecompressRequest request;
    *request.mutable_tiles() = tiles;
    const std::vector<float> dense = Floats(Decompress(request).keys());
    ASSERT_EQ(dense.size(), 2u * kTokens * kDim);
    const std::vector<uint16_t> halves = Wave(2 * kTokens * kDim, 3);
    for (size_t i = 0; i < dense.size(); ++i) {
      if (i % 3 == 0) {
        ASSERT_EQ(dense[i], 0.0f);
      } else {
        // Half a step of the coarser of the two formats, whose levels span about 4/3.
        ASSERT_NEAR(dense[i], HalfToFloat(halves[i]), 0.34f);
      }
    }
  }
}

TEST_F(CodecJobTest, NamesItsCodec) {
  EXPECT_EQ((*ParseCompress(CanonicalRequest(), Limits(), HeapStaging))->codec_name(), "balanced");
  EXPECT_EQ(
      (*ParseCompress(TilesRequest(v1::TILE_FORMAT_FP16), Limits(), HeapStaging))->codec_name(),
      "mustafar");
}

struct BadCompress {
  const char* name;
  std::function<void(v1::CompressRequest&)> break_it;
  const char* reason;
  const char* field;
};

void ExpectRefused(const v1::CompressRequest& good, const std::vector<BadCompress>& cases) {
  for (const BadCompress& bad : cases) {
    SCOPED_TRACE(bad.name);
    v1::CompressRequest request = good;
    bad.break_it(request);
    ExpectInvalid(ParseCompress(request, Limits(), HeapStaging).status(), bad.reason, bad.field);
  }
}

void SetNan(int element, v1::Tensor* tensor) {
  const uint16_t nan = 0x7e00;
  std::memcpy(tensor->mutable_data()->data() + element * sizeof(nan), &nan, sizeof(nan));
}

TEST(ParseCompressTest, RefusesMalformedCanonicalRequests) {
  ExpectRefused(
      CanonicalRequest(),
      {{"no options", [](auto& r) { r.clear_options(); }, "MISSING_FIELD", "options"},
       {"no keys", [](auto& r) { r.clear_keys(); }, "SHAPE_MISMATCH", "keys.shape"},
       {"no values", [](auto& r) { r.clear_values(); }, "SHAPE_MISMATCH", "values.shape"},
       {"two dimensions", [](auto& r) { r.mutable_keys()->mutable_shape()->RemoveLast(); },
        "SHAPE_MISMATCH", "keys.shape"},
       {"half a block", [](auto& r) { r.mutable_keys()->set_shape(0, 96); }, "SHAPE_MISMATCH",
        "keys.shape"},
       {"no tokens", [](auto& r) { r.mutable_keys()->set_shape(0, 0); }, "SHAPE_MISMATCH",
        "keys.shape"},
       {"negative tokens", [](auto& r) { r.mutable_keys()->set_shape(0, -64); }, "SHAPE_MISMATCH",
        "keys.shape"},
       {"too many heads", [](auto& r) { r.mutable_keys()->set_shape(1, 257); }, "SHAPE_MISMATCH",
        "keys.shape"},
       {"odd head_dim", [](auto& r) { r.mutable_keys()->set_shape(2, 65); }, "SHAPE_MISMATCH",
        "keys.shape"},
       {"a shape that overflows", [](auto& r) { r.mutable_keys()->set_shape(0, int64_t{1} << 62); },
        "BYTE_COUNT_MISMATCH", "keys.data"},
       {"different shapes",
        [](auto& r) {
          r.mutable_values()->set_shape(0, 64);
          r.mutable_values()->mutable_data()->resize(64 * kHeads * kDim * 2);
        },
        "SHAPE_MISMATCH", "values.shape"},
       {"short data", [](auto& r) { r.mutable_values()->mutable_data()->pop_back(); },
        "BYTE_COUNT_MISMATCH", "values.data"},
       {"no dtype", [](auto& r) { r.mutable_keys()->clear_dtype(); }, "UNSUPPORTED_DTYPE",
        "keys.dtype"},
       {"bad codec", [](auto& r) { r.mutable_canonical()->mutable_codec()->set_preset("none"); },
        "INVALID_CODEC", "codec.preset"},
       {"NaN", [](auto& r) { SetNan(5, r.mutable_values()); }, "NON_FINITE_INPUT", "values"}});
}

TEST(ParseCompressTest, RefusesMalformedTileRequests) {
  ExpectRefused(
      TilesRequest(v1::TILE_FORMAT_INT2_HEAD),
      {{"no tensors",
        [](auto& r) {
          r.clear_keys();
          r.clear_values();
        },
        "MISSING_FIELD", "keys"},
       {"no format", [](auto& r) { r.mutable_tiles()->clear_format(); }, "VALUE_OUT_OF_RANGE",
        "tiles.format"},
       {"no heads", [](auto& r) { r.mutable_tiles()->set_num_heads(0); }, "SHAPE_MISMATCH",
        "keys.shape"},
       {"heads that do not divide", [](auto& r) { r.mutable_tiles()->set_num_heads(3); },
        "SHAPE_MISMATCH", "keys.shape"},
       {"one dimension", [](auto& r) { r.mutable_values()->clear_shape(); }, "SHAPE_MISMATCH",
        "values.shape"},
       {"odd tokens", [](auto& r) { r.mutable_keys()->set_shape(1, 100); }, "SHAPE_MISMATCH",
        "keys.shape"},
       {"negative batch", [](auto& r) { r.mutable_keys()->set_shape(0, -2); }, "SHAPE_MISMATCH",
        "keys.shape"},
       {"a shape that overflows", [](auto& r) { r.mutable_keys()->set_shape(0, int64_t{1} << 60); },
        "SHAPE_MISMATCH", "keys.shape"},
       {"long data", [](auto& r) { r.mutable_keys()->mutable_data()->append("xx"); },
        "BYTE_COUNT_MISMATCH", "keys.data"},
       {"NaN", [](auto& r) { SetNan(5, r.mutable_keys()); }, "NON_FINITE_INPUT", "keys"}});
}

TEST(ParseCompressTest, SaysWhereTilesAreNotFinite) {
  v1::CompressRequest request = TilesRequest(v1::TILE_FORMAT_FP16);
  SetNan((1 * kTokens + 7) * kDim + 9, request.mutable_keys());
  const std::map<std::string, std::string> expected = {
      {"role", "keys"}, {"batch", "1"}, {"token", "7"}, {"head", "0"}, {"channel", "9"}};
  EXPECT_EQ(MetadataOf(ParseCompress(request, Limits(), HeapStaging).status()), expected);
}

TEST_F(CodecJobTest, RefusesHostileBlocks) {
  v1::DecompressRequest good;
  *good.mutable_canonical() = Compress(CanonicalRequest()).canonical();
  const std::vector<
      std::pair<std::function<void(v1::DecompressRequest&)>, std::pair<const char*, const char*>>>
      cases = {
          {[](auto& r) { r.clear_source(); }, {"MISSING_FIELD", "source"}},
          {[](auto& r) { r.set_output_dtype(static_cast<v1::DataType>(8)); },
           {"UNSUPPORTED_DTYPE", "output_dtype"}},
          {[](auto& r) { r.mutable_canonical()->set_num_tokens(63); },
           {"SHAPE_MISMATCH", "canonical"}},
          {[](auto& r) { r.mutable_canonical()->set_head_dim(100); },
           {"SHAPE_MISMATCH", "canonical"}},
          {[](auto& r) { r.mutable_canonical()->set_num_tokens(int64_t{1} << 62); },
           {"BYTE_COUNT_MISMATCH", "canonical.blocks"}},
          {[](auto& r) { r.mutable_canonical()->mutable_blocks()->pop_back(); },
           {"BYTE_COUNT_MISMATCH", "canonical.blocks"}},
          // Its bitmap then has too many bits.
          {[](auto& r) { r.mutable_canonical()->mutable_blocks()->replace(0, 8, 8, '\xff'); },
           {"CORRUPT_BLOCK", "canonical.blocks"}},
      };
  for (const auto& [break_it, expected] : cases) {
    v1::DecompressRequest request = good;
    break_it(request);
    ExpectInvalid(ParseDecompress(request, Limits(), HeapStaging).status(), expected.first,
                  expected.second);
  }
}

TEST_F(CodecJobTest, RefusesHostileTiles) {
  v1::DecompressRequest good;
  *good.mutable_tiles() = Compress(TilesRequest(v1::TILE_FORMAT_INT2_TILE)).key_tiles();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<std::pair<std::function<void(v1::Tiles*)>, std::pair<const char*, const char*>>>
      cases = {
          {[](auto* t) { t->clear_format(); }, {"VALUE_OUT_OF_RANGE", "tiles.format"}},
          {[](auto* t) { t->clear_role(); }, {"VALUE_OUT_OF_RANGE", "tiles.role"}},
          {[](auto* t) { t->set_batch(0); }, {"SHAPE_MISMATCH", "tiles"}},
          {[](auto* t) { t->set_num_tokens(int64_t{1} << 62); }, {"SHAPE_MISMATCH", "tiles"}},
          {[](auto* t) { t->mutable_bitmaps()->pop_back(); },
           {"BYTE_COUNT_MISMATCH", "tiles.bitmaps"}},
          {[](auto* t) { t->mutable_scales()->append("x"); },
           {"BYTE_COUNT_MISMATCH", "tiles.scales"}},
          {[](auto* t) { t->clear_bitmaps(); }, {"CORRUPT_BLOCK", "tiles"}},
          {[](auto* t) { t->clear_packed(); }, {"CORRUPT_BLOCK", "tiles"}},
          {[](auto* t) { t->mutable_offsets()->replace(4, 4, 4, '\xff'); },
           {"CORRUPT_BLOCK", "tiles"}},
          {[nan](auto* t) { std::memcpy(t->mutable_scales()->data(), &nan, sizeof(nan)); },
           {"CORRUPT_BLOCK", "tiles"}},
      };
  for (const auto& [break_it, expected] : cases) {
    v1::DecompressRequest request = good;
    break_it(request.mutable_tiles());
    ExpectInvalid(ParseDecompress(request, Limits(), HeapStaging).status(), expected.first,
                  expected.second);
  }
}

TEST_F(CodecJobTest, AnswersThatAreTooLargeAreRefusedBeforehand) {
  v1::DecompressRequest canonical;
  *canonical.mutable_canonical() = Compress(CanonicalRequest()).canonical();
  v1::DecompressRequest tiles;
  *tiles.mutable_tiles() = Compress(TilesRequest(v1::TILE_FORMAT_FP16)).key_tiles();
  Limits limits;
  limits.max_message_bytes = 2 * kTokens * kHeads * kDim * 4 - 1;
  ExpectError(ParseDecompress(canonical, limits, HeapStaging).status(),
              absl::StatusCode::kResourceExhausted, "RESPONSE_TOO_LARGE", "");
  limits.max_message_bytes = 2 * kTokens * kDim * 4 - 1;
  ExpectError(ParseDecompress(tiles, limits, HeapStaging).status(),
              absl::StatusCode::kResourceExhausted, "RESPONSE_TOO_LARGE", "");
  limits.max_message_bytes = 1000;
  ExpectError(ParseCompress(CanonicalRequest(), limits, HeapStaging).status(),
              absl::StatusCode::kResourceExhausted, "RESPONSE_TOO_LARGE", "");
}

}  // namespace
}  // namespace kvattend
