// The engine with the real CPU backend: random histories of sessions, compared with a simple model
// of exact tokens and the scalar reference codec.
//
// Attention over a session must be close to float64 attention over what the model decodes to, and
// the same to the bit as over a session that was filled with the model's tokens in one append.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "server/store/append_plan.h"
#include "tests/server/engine/cache_model.h"
#include "tests/server/engine/engine_harness.h"
#include "tests/support/random_tensors.h"

namespace kvattend::testing {
namespace {

constexpr int kNumLayers = 2;
constexpr int kNumQueryHeads = 4;
constexpr int kNumKvHeads = 2;

struct SessionModel {
  CodecSpec codec;
  int64_t recent_window = 0;
  int64_t revision = 1;
  std::vector<LayerModel> layers = std::vector<LayerModel>(kNumLayers);

  LayerShape shape() const { return {kNumKvHeads, codec}; }
};

struct HistoryParams {
  int head_dim;
  // The session's codec, then smaller ones.
  std::vector<std::string> codecs;
};

class EngineHistoryTest : public ::testing::TestWithParam<HistoryParams> {
 protected:
  EngineHistoryTest()
      : backend_(*CpuBackend::Create({.arena_bytes = 64 * kSlabBytes, .num_threads = 2})),
        harness_(backend_.get()) {}

  int head_dim() const { return GetParam().head_dim; }
  size_t token_size() const { return static_cast<size_t>(kNumKvHeads * head_dim()); }
  CodecSpec Codec(int64_t index) const {
    return *CodecFromPreset(GetParam().codecs[static_cast<size_t>(index)], head_dim());
  }
  std::vector<uint16_t> RandomTensor(size_t size) { return GaussianTensor(random_.Next(), size); }

  void Create(const std::string& id, const CodecSpec& codec, int64_t recent_window) {
    const absl::StatusOr<SessionInfo> info =
        harness_.Create({.id = id,
                         .shape = {kNumLayers, kNumQueryHeads, kNumKvHeads, head_dim()},
                         .codec = codec,
                         .recent_window = recent_window});
    ASSERT_TRUE(info.ok()) << info.status();
  }

  void AppendTo(const std::string& id, int64_t revision, int layer, int64_t position,
                const std::vector<uint16_t>& keys, const std::vector<uint16_t>& values) {
    AppendBatchBuilder builder(harness_.engine());
    builder.Add({.session = id,
                 .revision = revision,
                 .expected_position = position,
                 .layers = {layer},
                 .num_tokens = static_cast<int>(keys.size() / token_size()),
                 .num_kv_heads = kNumKvHeads,
                 .head_dim = head_dim()},
                keys, values);
    const absl::StatusOr<std::vector<AppendResult>> results = harness_.Append(builder.Build());
    ASSERT_TRUE(results.ok()) << results.status();
    ASSERT_TRUE(results->front().status.ok()) << results->front().status;
    ASSERT_FALSE(results->front().replayed);
  }

  void Step() {
    const int64_t action = random_.Integer(0, 19);
    if (models_.empty() || (action == 0 && models_.size() < 4)) {
      const std::string id = absl::StrCat("s", next_id_++);
      SessionModel& model = models_[id];
      model.codec = Codec(0);
      constexpr int64_t kWindows[] = {0, 16, 64, 100};
      model.recent_window = kWindows[random_.Integer(0, 3)];
      Create(id, model.codec, model.recent_window);
      return;
    }
    auto it = models_.begin();
    std::advance(it, random_.Integer(0, static_cast<int64_t>(models_.size()) - 1));
    const std::string id = it->first;
    SessionModel& model = it->second;
    const int layer = static_cast<int>(random_.Integer(0, kNumLayers - 1));
    if (action == 1 && models_.size() < 4) {
      const std::string fork = absl::StrCat("s", next_id_++);
      ASSERT_TRUE(harness_.Fork(id, fork).ok());
      models_[fork] = model;
      models_[fork].revision = 1;
    } else if (action == 2) {
      ASSERT_TRUE(harness_.Delete(id).ok());
      models_.erase(id);
    } else if (action <= 5) {
      Truncate(id, model);
    } else if (action <= 7) {
      Compress(id, model);
    } else if (action <= 10) {
      Append(id, model, layer, random_.Integer(1, 300));
    } else if (action <= 13) {
      Append(id, model, layer, random_.Integer(1, 20));
    } else if (action <= 16) {
      for (int i = 0; i < 15; ++i) Append(id, model, layer, 1);
    } else {
      Check(id, model, layer);
    }
  }

  void Append(const std::string& id, SessionModel& model, int layer, int64_t num_tokens) {
    const size_t size = static_cast<size_t>(num_tokens) * token_size();
    const std::vector<uint16_t> keys = RandomTensor(size), values = RandomTensor(size);
    LayerModel& layer_model = model.layers[static_cast<size_t>(layer)];
    AppendTo(id, model.revision, layer, layer_model.length(model.shape()), keys, values);
    layer_model.Append(model.shape(), model.recent_window, keys, values);
  }

  void Truncate(const std::string& id, SessionModel& model) {
    int64_t longest = 0;
    for (const LayerModel& layer : model.layers) {
      longest = std::max(longest, layer.length(model.shape()));
    }
    int64_t length = random_.Integer(std::max<int64_t>(0, longest - 30), longest);
    if (random_.Integer(0, 2) == 0) length = random_.Integer(0, longest / 64) * 64;
    bool is_possible = true;
    for (const LayerModel& layer : model.layers) is_possible &= layer.CanTruncate(length);
    const absl::StatusOr<SessionChange> change = harness_.Truncate(id, length);
    ASSERT_EQ(change.ok(), is_possible) << change.status();
    if (!is_possible) return;
    for (LayerModel& layer : model.layers) layer.Truncate(model.shape(), length);
    ++model.revision;
  }

  void Compress(const std::string& id, SessionModel& model) {
    const int64_t keep_exact = random_.Integer(0, model.recent_window);
    std::optional<CodecSpec> codec;
    const auto last = static_cast<int64_t>(GetParam().codecs.size()) - 1;
    if (random_.Integer(0, 1) == 0) codec = Codec(random_.Integer(0, last));
    const absl::StatusOr<SessionChange> change = harness_.Compress(id, keep_exact, codec);
    if (!change.ok()) {
      // A larger codec than the present one.
      ASSERT_EQ(ReasonOf(change.status()), "CODEC_NOT_SMALLER");
      return;
    }
    ++model.revision;
    const CodecSpec new_codec = codec.value_or(model.codec);
    for (LayerModel& layer : model.layers) {
      if (new_codec != model.codec) layer.DecodeCompressed(model.shape());
      layer.Compress(model.shape(), keep_exact);
    }
    model.codec = new_codec;
  }

  // Each session has as many blocks and pages as the rule says.
  void CheckStoredBytes() {
    for (const auto& [id, model] : models_) {
      int64_t stored_bytes = 0;
      for (const LayerModel& layer : model.layers) {
        const int64_t num_exact = layer.length(model.shape()) - layer.num_compressed;
        stored_bytes += layer.num_compressed / kBlockTokens *
                        static_cast<int64_t>(backend_->BlockBytes(model.shape()));
        stored_bytes +=
            PagesOf(num_exact) * static_cast<int64_t>(backend_->PageBytes(model.shape()));
      }
      ASSERT_EQ(harness_.Get(id)->stored_bytes, stored_bytes);
    }
  }

  // A session made of the model's layer alone, with as many blocks and exact tokens.
  void Refill(const std::string& id, const SessionModel& model, int layer) {
    const LayerModel& layer_model = model.layers[static_cast<size_t>(layer)];
    const int64_t length = layer_model.length(model.shape());
    Create(id, model.codec, length);
    AppendTo(id, 1, layer, 0, layer_model.keys, layer_model.values);
    ASSERT_TRUE(harness_.Compress(id, length - layer_model.num_compressed).ok());
  }

  void Check(const std::string& id, const SessionModel& model, int layer) {
    const LayerModel& layer_model = model.layers[static_cast<size_t>(layer)];
    const int64_t length = layer_model.length(model.shape());
    ASSERT_EQ(harness_.Get(id)->layer_lengths[static_cast<size_t>(layer)], length);
    if (length == 0) return;
    Refill("refilled", model, layer);

    const int num_tokens = static_cast<int>(random_.Integer(1, std::min<int64_t>(length, 3)));
    const std::vector<float> queries =
        ToFloats(RandomTensor(static_cast<size_t>(num_tokens * kNumQueryHeads * head_dim())));
    QueryEntry entry = {.session = id,
                        .layer = layer,
                        .num_tokens = num_tokens,
                        .num_query_heads = kNumQueryHeads,
                        .head_dim = head_dim(),
                        .queries = queries.data()};
    if (random_.Integer(0, 2) == 0) entry.start_position = random_.Integer(0, length - num_tokens);
    // Together and alone.
    QueryBatch both, alone;
    both.entries = {entry, entry};
    both.entries[1].session = "refilled";
    alone.entries = {entry};
    const absl::StatusOr<AttendAnswer> answers = harness_.Attend(std::move(both));
    const absl::StatusOr<AttendAnswer> answer = harness_.Attend(std::move(alone));
    ASSERT_TRUE(answers.ok() && answer.ok()) << answers.status() << answer.status();
    const size_t num_rows = static_cast<size_t>(num_tokens * kNumQueryHeads);
    const size_t num_outputs = num_rows * static_cast<size_t>(head_dim());
    const AttendResult& found = answer->results[0];
    ASSERT_TRUE(found.status.ok()) << found.status;
    for (const AttendResult& other : answers->results) {
      ASSERT_TRUE(other.status.ok()) << other.status;
      ASSERT_EQ(other.position, length);
      ASSERT_EQ(std::memcmp(other.output, found.output, num_outputs * sizeof(float)), 0);
      ASSERT_EQ(std::memcmp(other.lse, found.lse, num_rows * sizeof(float)), 0);
    }
    ExpectClose(found.output,
                ModelAttention(layer_model, model.shape(),
                               {.num_tokens = num_tokens,
                                .num_query_heads = kNumQueryHeads,
                                .data = queries.data(),
                                .scale = 1.0f / std::sqrt(static_cast<float>(head_dim())),
                                .start_position = entry.start_position}));
    ASSERT_TRUE(harness_.Delete("refilled").ok());
    ++num_checks_;
  }

  void ExpectClose(const float* output, const std::vector<double>& expected) {
    double largest = 0, error = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      largest = std::max(largest, std::abs(expected[i]));
      error = std::max(error, std::abs(expected[i] - output[i]));
    }
    // The service's promise: 1e-3 of the largest.
    EXPECT_LE(error, 1e-3 * largest);
  }

  std::unique_ptr<CpuBackend> backend_;
  EngineHarness harness_;
  RandomStream random_{0};
  std::map<std::string, SessionModel> models_;
  int next_id_ = 0;
  int num_checks_ = 0;
};

TEST_P(EngineHistoryTest, AgreesWithTheModel) {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    random_ = RandomStream(seed);
    for (int step = 0; step < 120; ++step) {
      Step();
      CheckStoredBytes();
      if (HasFailure()) return;
    }
    for (const auto& [id, model] : models_) {
      for (int layer = 0; layer < kNumLayers; ++layer) Check(id, model, layer);
      if (HasFailure()) return;
    }
    for (const auto& [id, model] : models_) ASSERT_TRUE(harness_.Delete(id).ok());
    models_.clear();
    EXPECT_EQ(harness_.engine().memory_use().kv_bytes, 0);
    EXPECT_EQ(harness_.engine().memory_use().dense_bytes, 0);
  }
  EXPECT_GT(num_checks_, 20);
}

// Threads append the same tokens to a session each, in chunks of their own, all at once: every
// answer is the same to the bit.
TEST_P(EngineHistoryTest, ThreadsGetTheSameAnswers) {
  constexpr int kThreads = 4;
  constexpr int kTokens = 300;
  const std::vector<uint16_t> keys = RandomTensor(kTokens * token_size());
  const std::vector<uint16_t> values = RandomTensor(kTokens * token_size());
  const std::vector<float> queries =
      ToFloats(RandomTensor(static_cast<size_t>(kNumQueryHeads * head_dim())));
  std::vector<std::vector<float>> outputs(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const std::string id = absl::StrCat("s", t);
      Create(id, Codec(0), 64);
      const int chunk = 1 + 70 * t;
      for (int position = 0; position < kTokens; position += chunk) {
        const int end = std::min(position + chunk, kTokens);
        const auto slice = [&](const std::vector<uint16_t>& x) {
          return std::vector<uint16_t>(x.begin() + position * static_cast<ptrdiff_t>(token_size()),
                                       x.begin() + end * static_cast<ptrdiff_t>(token_size()));
        };
        AppendTo(id, 1, 0, position, slice(keys), slice(values));
      }
      QueryBatch batch;
      batch.entries = {{.session = id,
                        .num_tokens = 1,
                        .num_query_heads = kNumQueryHeads,
                        .head_dim = head_dim(),
                        .queries = queries.data()}};
      const absl::StatusOr<AttendAnswer> answer = harness_.Attend(std::move(batch));
      ASSERT_TRUE(answer.ok() && answer->results[0].status.ok()) << answer.status();
      outputs[static_cast<size_t>(t)].assign(answer->results[0].output,
                                             answer->results[0].output + queries.size());
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::vector<float>& output : outputs) {
    ASSERT_EQ(output.size(), queries.size());
    EXPECT_EQ(std::memcmp(output.data(), outputs[0].data(), output.size() * sizeof(float)), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Codecs, EngineHistoryTest,
    ::testing::Values(HistoryParams{64, {"fp16", "sparse50", "sparse50-int4", "lean"}},
                      HistoryParams{128, {"int8", "fine", "balanced"}},
                      HistoryParams{128, {"sparse70", "sparse70-int4", "sparse70-int2"}},
                      HistoryParams{256, {"int4", "sparse50-int2"}}),
    [](const ::testing::TestParamInfo<HistoryParams>& info) {
      return absl::StrCat("Dim", info.param.head_dim, "From",
                          absl::StrReplaceAll(info.param.codecs.front(), {{"-", "_"}}));
    });

}  // namespace
}  // namespace kvattend::testing
