// Attention's output and LSE against float64.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/kernels/conformance/conformance.h"
#include "tests/support/random_tensors.h"

namespace kvattend::testing {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// A query and its results in staging.
struct Asked {
  Asked(Backend& backend, const CodecSpec& codec, int num_tokens, int num_query_heads,
        double magnitude, uint64_t seed)
      : queries(backend,
                ToFloats(GaussianTensor(
                    seed, size_t{1} * num_tokens * num_query_heads * codec.head_dim, magnitude))),
        output(backend, queries.size(), kNan),
        lse(backend, size_t{1} * num_tokens * num_query_heads, kNan) {
    query.num_tokens = num_tokens;
    query.num_query_heads = num_query_heads;
    query.data = queries.data();
    query.scale = 1.0f / std::sqrt(static_cast<float>(codec.head_dim));
  }
  AttendTask Task(const TestLayer& layer) const {
    return {layer.View(), query, output.data(), lse.data()};
  }

  Staged<float> queries;
  Staged<float> output;
  Staged<float> lse;
  Query query;
};

void ExpectNear(const Asked& asked, const ReferenceOutput& expected, int head_dim,
                double tolerance) {
  for (size_t row = 0; row < expected.lse.size(); ++row) {
    double largest = 0.0;
    double error = 0.0;
    for (int c = 0; c < head_dim; ++c) {
      const double want = expected.output[row * head_dim + c];
      const double difference = std::abs(asked.output[row * head_dim + c] - want);
      largest = std::max(largest, std::abs(want));
      // Not std::max, which would drop a NaN.
      if (!(difference <= error)) error = difference;
    }
    ASSERT_LE(error, tolerance * largest) << "output of row " << row;
    ASSERT_NEAR(asked.lse[row], expected.lse[row],
                tolerance * std::max(1.0, std::abs(expected.lse[row])))
        << "row " << row;
  }
}

class AttendConformanceTest : public BackendConformanceTest {
 protected:
  // `name` says all that the expected result depends on: it is kept for the next backend.
  void AttendAndCompare(const std::string& name, const CodecCase& c, const TestLayer& layer,
                        const Asked& asked) {
    AttendAndCompare(name, c, layer, asked, GetParam().tolerance);
  }
  void AttendAndCompare(const std::string& name, const CodecCase& c, const TestLayer& layer,
                        const Asked& asked, double tolerance) {
    SCOPED_TRACE(name);
    static auto& references = *new std::map<std::string, ReferenceOutput>;
    auto it = references.find(name);
    if (it == references.end()) {
      it = references
               .emplace(name, ReferenceAttend(Decompressed(c, layer), layer.length(), asked.query))
               .first;
    }
    ASSERT_TRUE(backend().Attend({asked.Task(layer)}).ok());
    ExpectNear(asked, it->second, c.shape.codec.head_dim, tolerance);
  }
};

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(AttendConformanceTest);
INSTANTIATE_TEST_SUITE_P(Backends, AttendConformanceTest,
                         ::testing::ValuesIn(ConformanceBackends()),
                         [](const auto& info) { return info.param.name; });

TEST_P(AttendConformanceTest, EveryPresetAndLength) {
  const int kQueryTokens[] = {1, 2, 7, 65};
  const int kGroups[] = {4, 1, 8, 3};
  int turn = 0;
  for (const int head_dim : {64, 128, 256}) {
    for (const CodecSpec& codec : PresetCodecs(head_dim)) {
      const CodecCase& c = GetCodecCase(codec, /*num_kv_heads=*/1, 4096);
      for (const int64_t length : {1, 63, 64, 65, 127, 128, 129, 1000, 4096}) {
        const TestLayer layer = MakeLayer(c, length, /*num_exact_blocks=*/0);
        // All pairs of query tokens and groups come up, whatever the codec and length.
        ++turn;
        const int num_tokens = std::min<int>(kQueryTokens[turn % 4], length);
        const int group = kGroups[turn / 4 % 4];
        const std::string name = absl::StrCat("preset ", Describe(codec), ", length ", length,
                                              ", tokens ", num_tokens, ", group ", group);
        AttendAndCompare(name, c, layer, Asked(backend(), codec, num_tokens, group, 1.0, turn));
        if (HasFatalFailure()) return;
      }
    }
  }
}

// More rows than one call of a kernel takes, over two KV heads and the border between two splits.
TEST_P(AttendConformanceTest, ManyRowsOverSplits) {
  for (const char* preset : {"balanced", "fine", "sparse50", "int8"}) {
    const CodecSpec codec = CodecFromPreset(preset, 64).value();
    const CodecCase& c = GetCodecCase(codec, /*num_kv_heads=*/2, 2176);
    for (const int64_t length : {1023, 1024, 1025, 1060, 2100}) {
      AttendAndCompare(absl::StrCat("many rows, ", Describe(codec), ", length ", length), c,
                       MakeLayer(c, length, 1), Asked(backend(), codec, 65, 8, 1.0, 5));
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(AttendConformanceTest, Windows) {
  for (const char* preset : {"balanced", "int4", "fp16"}) {
    const CodecSpec codec = CodecFromPreset(preset, 128).value();
    const CodecCase& c = GetCodecCase(codec, /*num_kv_heads=*/2, 2176);
    const TestLayer layer = MakeLayer(c, 2170, 1);
    for (const int64_t start : {1, 63, 64, 100, 1023, 1024, 1025, 2047, 2100, 2160, 2167}) {
      Asked asked(backend(), codec, 3, 4, 1.0, 6);
      asked.query.start_position = start;
      AttendAndCompare(absl::StrCat("window, ", Describe(codec), ", start ", start), c, layer,
                       asked);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(AttendConformanceTest, AnyCodec) {
  RandomStream random(7);
  const int kBits[] = {16, 8, 4, 2};
  for (int i = 0; i < 60; ++i) {
    CodecSpec codec;
    codec.head_dim = 64 << random.Integer(0, 2);
    codec.keys = {static_cast<int>(random.Integer(1, codec.head_dim)), kBits[random.Integer(0, 3)]};
    codec.values = {static_cast<int>(random.Integer(1, codec.head_dim)),
                    kBits[random.Integer(0, 3)]};
    const CodecCase& c = GetCodecCase(codec, /*num_kv_heads=*/3, 192);
    const TestLayer layer =
        MakeLayer(c, 192 - random.Integer(0, 60), static_cast<int>(random.Integer(0, 1)));
    AttendAndCompare(absl::StrCat("custom, ", Describe(codec), ", number ", i), c, layer,
                     Asked(backend(), codec, 2, 6, 1.0, i));
    if (HasFatalFailure()) return;
  }
}

// From a softmax that weighs all tokens alike to one that sees a single token.
TEST_P(AttendConformanceTest, MagnitudesOfScores) {
  for (const char* preset : {"balanced", "sparse70-int2", "int4", "int8", "fp16", "sparse50"}) {
    const CodecSpec codec = CodecFromPreset(preset, 128).value();
    const CodecCase& c = GetCodecCase(codec, /*num_kv_heads=*/1, 1024);
    const TestLayer layer = MakeLayer(c, 1000, 0);
    for (const double magnitude : {0.0, 1e-6, 0.01, 3.0, 10.0, 30.0}) {
      AttendAndCompare(absl::StrCat("scores, ", Describe(codec), ", magnitude ", magnitude), c,
                       layer, Asked(backend(), codec, 2, 4, magnitude, 8),
                       magnitude > 10.0 ? GetParam().large_score_tolerance : GetParam().tolerance);
      if (HasFatalFailure()) return;
    }
  }
}

class AttendIdentityTest : public AttendConformanceTest {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(AttendIdentityTest);
INSTANTIATE_TEST_SUITE_P(Backends, AttendIdentityTest, ::testing::ValuesIn(ConformanceBackends()),
                         [](const auto& info) { return info.param.name; });

void ExpectSameBits(const Asked& a, const Asked& b) {
  // By value: no result is a NaN, and -0 against +0 would be a difference in sums' order only.
  EXPECT_EQ(a.output.ToVector(), b.output.ToVector());
  EXPECT_EQ(a.lse.ToVector(), b.lse.ToVector());
}

TEST_P(AttendIdentityTest, AloneAndInABatch) {
  const CodecSpec codec = CodecFromPreset("balanced", 128).value();
  const CodecSpec other_codec = CodecFromPreset("sparse50", 64).value();
  const CodecCase& c = GetCodecCase(codec, 2, 2176);
  const CodecCase& other = GetCodecCase(other_codec, 2, 2176);
  const TestLayer layer = MakeLayer(c, 2100, 1);
  const TestLayer other_layer = MakeLayer(other, 700, 0);
  const Asked alone(backend(), codec, 7, 8, 1.0, 9);
  ASSERT_TRUE(backend().Attend({alone.Task(layer)}).ok());
  const Asked again(backend(), codec, 7, 8, 1.0, 9);
  const Asked before(backend(), other_codec, 65, 6, 1.0, 10);
  const Asked after(backend(), codec, 1, 2, 1.0, 11);
  ASSERT_TRUE(
      backend().Attend({before.Task(other_layer), again.Task(layer), after.Task(layer)}).ok());
  ExpectSameBits(alone, again);

  // The last of the query's tokens, asked alone.
  const Asked last(backend(), codec, 1, 8, 0.0, 0);
  const size_t row_size = last.queries.size();
  std::copy_n(alone.queries.data() + 6 * row_size, row_size, last.queries.data());
  ASSERT_TRUE(backend().Attend({last.Task(layer)}).ok());
  for (size_t i = 0; i < row_size; ++i) {
    ASSERT_EQ(last.output[i], alone.output[6 * row_size + i]) << i;
  }
}

TEST_P(AttendIdentityTest, AnyNumberOfThreads) {
  const CodecSpec codec = CodecFromPreset("fine", 128).value();
  const CodecCase& c = GetCodecCase(codec, 2, 2176);
  std::vector<float> first;
  for (const int num_threads : {1, 2, 5}) {
    const std::unique_ptr<Backend> backend = CreateBackend(num_threads);
    TestLayer layer{c.shape, {}, {}, 0};
    for (int b = 0; b < 34; ++b) layer.blocks.push_back(b * backend->BlockBytes(c.shape));
    ASSERT_TRUE(backend->WriteBlocks(c.shape, layer.blocks, c.canonical.data()).ok());
    const Asked asked(*backend, codec, 3, 8, 1.0, 12);
    for (int run = 0; run < 3; ++run) {
      ASSERT_TRUE(backend->Attend({asked.Task(layer)}).ok());
      if (first.empty()) first = asked.output.ToVector();
      ASSERT_EQ(asked.output.ToVector(), first) << num_threads << " threads";
    }
  }
}

// Tokens that came one by one through pages, and the same in one piece.
TEST_P(AttendIdentityTest, HoweverTokensCame) {
  for (const char* preset : {"balanced", "sparse70-int2", "sparse50", "int8"}) {
    SCOPED_TRACE(preset);
    const CodecSpec codec = CodecFromPreset(preset, 128).value();
    const CodecCase& c = GetCodecCase(codec, 2, 192);
    const TestLayer whole = MakeLayer(c, 150, 0);

    TestLayer grown{c.shape, {}, {}, 0};
    const size_t row_size = size_t{2} * codec.head_dim;
    const Staged<uint16_t> keys(backend(), c.keys);
    const Staged<uint16_t> values(backend(), c.values);
    for (int t = 0; t < 150; ++t) {
      if (grown.num_exact == kBlockTokens) {
        CompressTask compress{c.shape, AllocateBlock(c.shape), kBlockTokens};
        std::copy_n(grown.pages.begin(), 4, compress.pages);
        ASSERT_TRUE(backend().Append({compress}, {}).ok());
        grown.blocks.push_back(compress.block);
        grown.pages.clear();
        grown.num_exact = 0;
      }
      const int slot = grown.num_exact % kPageTokens;
      if (slot == 0) grown.pages.push_back(AllocatePage(c.shape));
      ASSERT_TRUE(backend()
                      .Append({}, {{c.shape, grown.pages.back(), slot, 1,
                                    keys.data() + t * row_size, values.data() + t * row_size}})
                      .ok());
      ++grown.num_exact;
    }
    const Asked a(backend(), codec, 2, 8, 1.0, 13);
    const Asked b(backend(), codec, 2, 8, 1.0, 13);
    ASSERT_TRUE(backend().Attend({a.Task(whole)}).ok());
    ASSERT_TRUE(backend().Attend({b.Task(grown)}).ok());
    ExpectSameBits(a, b);
  }
}

}  // namespace
}  // namespace kvattend::testing
