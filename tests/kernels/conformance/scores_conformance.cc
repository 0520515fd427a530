// Scores against float64.
#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/kernels/conformance/conformance.h"
#include "tests/support/random_tensors.h"

namespace kvattend::testing {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr int kQueryHeads = 4;
constexpr double kTolerance = 3e-4;

class ScoresConformanceTest : public BackendConformanceTest {
 protected:
  struct Answer {
    Staged<float> scores;
    Staged<int64_t> positions;
    size_t width;
  };

  Query MakeQuery(const CodecSpec& codec, const Staged<float>& data, int num_tokens,
                  int64_t start) {
    return {num_tokens, kQueryHeads, data.data(),
            1.0f / std::sqrt(static_cast<float>(codec.head_dim)), start};
  }

  Answer Compute(const TestLayer& layer, const Query& query, bool softmax, int top_k) {
    const int64_t seen = layer.length() - query.start_position;
    const size_t width = top_k == 0 ? seen : std::min<int64_t>(top_k, seen);
    const size_t size = query.num_tokens * query.num_query_heads * width;
    Answer answer{Staged<float>(backend(), size, kNan), Staged<int64_t>(backend(), size, -7),
                  width};
    const ScoreTask task{layer.View(),
                         query,
                         softmax,
                         top_k,
                         answer.scores.data(),
                         top_k == 0 ? nullptr : answer.positions.data()};
    EXPECT_TRUE(backend().ComputeScores({task}).ok());
    return answer;
  }

  // What scores become with softmax: per row of `width`.
  static std::vector<double> Softmax(std::vector<double> scores, int64_t width) {
    for (auto row = scores.begin(); row != scores.end(); row += width) {
      const double max = *std::max_element(row, row + width);
      double sum = 0.0;
      for (auto s = row; s != row + width; ++s) sum += * s = std::exp(*s - max);
      for (auto s = row; s != row + width; ++s) *s /= sum;
    }
    return scores;
  }

  static void ExpectRow(const float* got, const double* want, int64_t width, bool softmax) {
    double largest = 0.0;
    for (int64_t i = 0; i < width; ++i) {
      if (std::isfinite(want[i])) largest = std::max(largest, std::abs(want[i]));
    }
    for (int64_t i = 0; i < width; ++i) {
      if (std::isinf(want[i])) {
        ASSERT_EQ(got[i], -INFINITY) << i;
      } else if (softmax && want[i] == 0.0) {
        ASSERT_EQ(got[i], 0.0f) << i;
      } else {
        ASSERT_NEAR(got[i], want[i], kTolerance * largest) << i;
      }
    }
  }
};

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ScoresConformanceTest);
INSTANTIATE_TEST_SUITE_P(Backends, ScoresConformanceTest,
                         ::testing::ValuesIn(ConformanceBackends()),
                         [](const auto& info) { return info.param.name; });

TEST_P(ScoresConformanceTest, RawAndSoftmax) {
  for (const char* preset : {"balanced", "int8", "sparse50", "fp16"}) {
    const CodecSpec codec = CodecFromPreset(preset, 128).value();
    const CodecCase& c = GetCodecCase(codec, /*num_kv_heads=*/2, 2176);
    for (const int64_t length : {1, 65, 1000, 2100}) {
      const TestLayer layer = MakeLayer(c, length, length > 200 ? 1 : 0);
      const int num_tokens = std::min<int64_t>(length, 3);
      const Staged<float> data(
          backend(), ToFloats(GaussianTensor(51, size_t{3} * kQueryHeads * codec.head_dim)));
      for (const int64_t start : {int64_t{0}, length / 2, length - num_tokens}) {
        const Query query = MakeQuery(codec, data, num_tokens, start);
        const std::vector<double> raw = ReferenceScores(Decompressed(c, layer), length, query);
        for (const bool softmax : {false, true}) {
          SCOPED_TRACE(Describe(codec) + ", length " + std::to_string(length) + ", start " +
                       std::to_string(start) + (softmax ? ", softmax" : ""));
          const Answer answer = Compute(layer, query, softmax, 0);
          const std::vector<double> want = softmax ? Softmax(raw, length - start) : raw;
          for (size_t row = 0; row < want.size(); row += answer.width) {
            ExpectRow(&answer.scores[row], &want[row], answer.width, softmax);
            if (HasFatalFailure()) return;
          }
        }
      }
    }
  }
}

// A query of one channel alone: where a backend rounds queries to integers, the largest must not
// leave their range. Of these mantissas the rounded inverse is a little too large.
TEST_P(ScoresConformanceTest, OneLargeChannel) {
  constexpr float kMantissas[] = {0x1.0112cep+0f, 0x1.0183eap+0f, 0x1.01c96p+0f,  0x1.01cb5cp+0f,
                                  0x1.01db3ap+0f, 0x1.024e54p+0f, 0x1.026c12p+0f, 0x1.0289dcp+0f};
  constexpr int kNumTokens = 8 * 16;
  for (const char* preset : {"balanced", "lean", "int8", "fp16"}) {
    const CodecSpec codec = CodecFromPreset(preset, 64).value();
    SCOPED_TRACE(Describe(codec));
    const CodecCase& c = GetCodecCase(codec, /*num_kv_heads=*/1, 512);
    const TestLayer layer = MakeLayer(c, 512, 0);
    const Staged<float> data(backend(), size_t{kNumTokens} * kQueryHeads * codec.head_dim, 0.0f);
    for (int t = 0; t < kNumTokens; ++t) {
      for (int h = 0; h < kQueryHeads; ++h) {
        const float magnitude = std::ldexp(kMantissas[t % 8], 2 * (t / 8));
        const int channel = (16 * h + t) % codec.head_dim;
        data[(t * kQueryHeads + h) * codec.head_dim + channel] = h < 2 ? magnitude : -magnitude;
      }
    }
    const Query query = MakeQuery(codec, data, kNumTokens, 0);
    const std::vector<double> want = ReferenceScores(Decompressed(c, layer), 512, query);
    const Answer answer = Compute(layer, query, /*softmax=*/false, 0);
    for (size_t row = 0; row < want.size(); row += answer.width) {
      SCOPED_TRACE("row " + std::to_string(row / answer.width));
      ExpectRow(&answer.scores[row], &want[row], answer.width, /*softmax=*/false);
      if (HasFatalFailure()) return;
    }
  }
}

// The same numbers as all scores give, sorted.
TEST_P(ScoresConformanceTest, TopK) {
  const CodecSpec codec = CodecFromPreset("balanced", 128).value();
  const CodecCase& c = GetCodecCase(codec, /*num_kv_heads=*/2, 2176);
  const TestLayer layer = MakeLayer(c, 2100, 1);
  const Staged<float> data(backend(),
                           ToFloats(GaussianTensor(52, size_t{5} * kQueryHeads * codec.head_dim)));
  for (const int64_t start : {0, 1030, 2095}) {
    const Query query = MakeQuery(codec, data, 5, start);
    for (const bool softmax : {false, true}) {
      const Answer all = Compute(layer, query, softmax, 0);
      for (const int top_k : {1, 4, 10, 1000, 5000}) {
        SCOPED_TRACE("start " + std::to_string(start) + ", top " + std::to_string(top_k));
        const Answer top = Compute(layer, query, softmax, top_k);
        for (int row = 0; row < 5 * kQueryHeads; ++row) {
          const int64_t num_seen = 2100 - 5 + row / kQueryHeads + 1 - start;
          std::vector<int64_t> order(num_seen);
          for (int64_t i = 0; i < num_seen; ++i) order[i] = i;
          const float* const scores = &all.scores[row * all.width];
          std::stable_sort(order.begin(), order.end(),
                           [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
          for (size_t i = 0; i < top.width; ++i) {
            const bool found = i < order.size();
            const float unseen = softmax ? 0.0f : -INFINITY;
            ASSERT_EQ(top.positions[row * top.width + i], found ? start + order[i] : -1) << i;
            ASSERT_EQ(top.scores[row * top.width + i], found ? scores[order[i]] : unseen) << i;
          }
        }
      }
    }
  }
}

// Keys that are all alike score alike: the lowest positions win.
TEST_P(ScoresConformanceTest, TiesGoToTheLowerPosition) {
  const CodecSpec codec = CodecFromPreset("fp16", 64).value();
  const LayerShape shape{1, codec};
  const Staged<uint16_t> tokens(backend(), ConstantTensor(kBlockTokens * 64, 0.25f));
  TestLayer layer{shape, {AllocateBlock(shape)}, {AllocatePage(shape)}, 9};
  CompressTask compress{shape, layer.blocks[0]};
  compress.keys = compress.values = tokens.data();
  ASSERT_TRUE(backend()
                  .Append({compress}, {{shape, layer.pages[0], 0, 9, tokens.data(), tokens.data()}})
                  .ok());
  const Staged<float> data(backend(), std::vector<float>(kQueryHeads * 64, 1.0f));
  for (const bool softmax : {false, true}) {
    const Answer answer = Compute(layer, MakeQuery(codec, data, 1, 2), softmax, 70);
    for (int64_t i = 0; i < 70; ++i) ASSERT_EQ(answer.positions[i], i + 2);
  }
}

}  // namespace
}  // namespace kvattend::testing
