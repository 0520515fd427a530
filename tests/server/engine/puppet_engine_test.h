// A fixture: an engine over a puppet, which follows tokens by their tags.
//
// Sessions have 3 layers, 4 query heads, 2 KV heads, head_dim 64 and a recent window of 64 tokens
// unless a test says otherwise.
#ifndef KVATTEND_TESTS_SERVER_ENGINE_PUPPET_ENGINE_TEST_H_
#define KVATTEND_TESTS_SERVER_ENGINE_PUPPET_ENGINE_TEST_H_

#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/engine/engine_harness.h"
#include "tests/support/puppet_backend.h"

namespace kvattend::testing {

class PuppetEngineTest : public ::testing::Test {
 protected:
  static constexpr int kStride = 2 * 64;
  // sparse50-int4's formats at head_dim 64.
  static constexpr CodecSpec kCodec = {64, {32, 4}, {32, 4}};
  static constexpr LayerShape kLayerShape = {2, kCodec};

  explicit PuppetEngineTest(EngineOptions options = {})
      : backend_(16 * kSlabBytes), harness_(&backend_, std::move(options)) {}

  int64_t block_bytes() const { return static_cast<int64_t>(backend_.BlockBytes(kLayerShape)); }
  int64_t page_bytes() const { return static_cast<int64_t>(backend_.PageBytes(kLayerShape)); }
  int64_t kv_bytes() { return harness_.engine().memory_use().kv_bytes; }

  static CreateSessionParams Params(std::string id) {
    return {.id = std::move(id), .shape = {3, 4, 2, 64}, .codec = kCodec};
  }
  SessionInfo Create(const std::string& id) {
    absl::StatusOr<SessionInfo> info = harness_.Create(Params(id));
    EXPECT_TRUE(info.ok()) << info.status();
    return info.value_or(SessionInfo());
  }

  static AppendEntry Entry(const std::string& session, std::vector<int> layers, int64_t position,
                           int num_tokens) {
    return {.session = session,
            .revision = 1,
            .expected_position = position,
            .layers = std::move(layers),
            .num_tokens = num_tokens,
            .num_kv_heads = 2,
            .head_dim = 64};
  }
  // The tokens of all layers: the tag of token t of a layer is first_tag + t.
  static std::vector<uint16_t> Tagged(const AppendEntry& entry, int first_tag) {
    std::vector<uint16_t> keys;
    for (size_t layer = 0; layer < entry.layers.size(); ++layer) {
      for (int t = 0; t < entry.num_tokens; ++t) {
        keys.resize(keys.size() + kStride);
        keys[keys.size() - kStride] = static_cast<uint16_t>(first_tag + t);
      }
    }
    return keys;
  }
  static std::vector<int> Range(int first, int end) {
    std::vector<int> tags;
    for (int tag = first; tag < end; ++tag) tags.push_back(tag);
    return tags;
  }

  // Tags are the tokens' positions plus `tag_offset`.
  AppendResult AppendOne(AppendEntry entry, int tag_offset = 0, CallContext context = {}) {
    const std::vector<uint16_t> keys =
        Tagged(entry, static_cast<int>(entry.expected_position) + tag_offset);
    AppendBatchBuilder builder(harness_.engine());
    absl::StatusOr<std::vector<AppendResult>> results =
        harness_.Append(builder.Add(std::move(entry), keys, keys).Build(), std::move(context));
    if (!results.ok()) return {.status = results.status()};
    EXPECT_EQ(results->size(), 1u);
    return results->front();
  }
  void Fill(const std::string& session, int num_tokens, int tag_offset = 0) {
    const AppendResult result = AppendOne(Entry(session, {0, 1, 2}, 0, num_tokens), tag_offset);
    ASSERT_TRUE(result.status.ok()) << result.status;
  }

  QueryEntry QueryOf(const std::string& session, int layer, int num_tokens = 1) {
    return {.session = session,
            .layer = layer,
            .num_tokens = num_tokens,
            .num_query_heads = 4,
            .head_dim = 64,
            .queries = queries_.data()};
  }
  // The tags that an Attend on the layer sees.
  std::vector<int> TokensOf(const std::string& session, int layer) {
    QueryBatch batch;
    batch.entries.push_back(QueryOf(session, layer));
    const absl::StatusOr<AttendAnswer> answer = harness_.Attend(std::move(batch));
    EXPECT_TRUE(answer.ok()) << answer.status();
    if (!answer.ok() || !answer->results.front().status.ok()) return {};
    return backend_.attend_calls().back().front().tokens;
  }

  PuppetBackend backend_;
  EngineHarness harness_;
  std::vector<float> queries_ = std::vector<float>(1024 * 4 * 64);
};

}  // namespace kvattend::testing

#endif  // KVATTEND_TESTS_SERVER_ENGINE_PUPPET_ENGINE_TEST_H_
