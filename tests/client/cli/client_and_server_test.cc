// The client library and the plan's arithmetic against a running server.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "client/cli/plan.h"
#include "client/cpp/errors.h"
#include "tests/client/cli/server_fixture.h"

namespace kvattend::cli {
namespace {

using client::AppendInput;
using client::AsBytes;
using client::Session;
using ::testing::SizeIs;

constexpr int kKvHeads = 2;
constexpr int kHeadDim = 64;

// Float16 values between 1 and 2, of any sign.
std::string RandomHalves(int64_t count, int seed) {
  std::mt19937 generator(seed);
  std::string data(count * 2, '\0');
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = generator();
    const uint16_t half = static_cast<uint16_t>(0x3c00u | (bits & 0x83ffu));
    data[2 * i] = static_cast<char>(half & 0xff);
    data[2 * i + 1] = static_cast<char>(half >> 8);
  }
  return data;
}

client::SessionOptions Options(int layers, const std::string& preset, int64_t window,
                               int kv_heads = kKvHeads, int head_dim = kHeadDim) {
  client::SessionOptions options;
  options.model_shape.set_num_layers(layers);
  options.model_shape.set_num_query_heads(2 * kv_heads);
  options.model_shape.set_num_kv_heads(kv_heads);
  options.model_shape.set_head_dim(head_dim);
  options.codec.set_preset(preset);
  options.recent_window = window;
  return options;
}

AppendInput Input(std::vector<int> layers, int64_t num_tokens, const std::string& keys,
                  const std::string& values) {
  return {.layers = std::move(layers),
          .num_tokens = num_tokens,
          .keys = AsBytes(absl::string_view(keys)),
          .values = AsBytes(absl::string_view(values))};
}

class ClientAndServerTest : public ServerFixture {};

TEST_F(ClientAndServerTest, LongAppendsAreChunkedAndExact) {
  constexpr int64_t kTokens = 3000;
  const int64_t elements = 3 * kTokens * kKvHeads * kHeadDim;
  const std::string keys = RandomHalves(elements, 1);
  const std::string values = RandomHalves(elements, 2);
  const std::string queries = RandomHalves(2 * kKvHeads * kHeadDim, 3);
  // In one call each, then on a server whose messages hold a tenth of it.
  std::vector<std::string> outputs[2];
  for (int small : {0, 1}) {
    ServerOptions options;
    if (small == 1) options.max_message_bytes = 512 << 10;
    StartServer(options);
    const auto client = Connect();
    Session session = client->CreateSession(Options(3, "balanced", 64)).value();
    const absl::Status status = session.Append(Input({2, 0, 1}, kTokens, keys, values));
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_TRUE(session.Refresh().ok());
    for (int layer : {0, 1, 2}) {
      EXPECT_EQ(session.position(layer), kTokens);
      const auto output =
          session.Attend({.layer = layer, .queries = AsBytes(absl::string_view(queries))});
      ASSERT_TRUE(output.ok()) << output.status();
      outputs[small].push_back(output->outputs.data());
    }
    EXPECT_TRUE(session.Delete().ok());
  }
  EXPECT_EQ(outputs[0], outputs[1]);
  EXPECT_NE(outputs[0][0], outputs[0][1]);
}

TEST_F(ClientAndServerTest, TwoHandlesConflictUntilRefreshed) {
  const auto client = Connect();
  Session first = client->CreateSession(Options(1, "int4", 0)).value();
  Session second = client->OpenSession(first.name()).value();
  const std::string data = RandomHalves(10 * kKvHeads * kHeadDim, 1);
  ASSERT_TRUE(first.Append(Input({0}, 10, data, data)).ok());

  // Fewer tokens at the same position are there already; more are not.
  const std::string part = data.substr(0, 4 * kKvHeads * kHeadDim * 2);
  EXPECT_TRUE(second.Append(Input({0}, 4, part, part)).ok());
  EXPECT_EQ(second.position(0), 4);
  const absl::Status conflict = second.Append(Input({0}, 10, data, data));
  EXPECT_TRUE(absl::IsAborted(conflict));
  EXPECT_EQ(client::GetErrorDetails(conflict).reason, "POSITION_CONFLICT");
  EXPECT_EQ(client::GetErrorDetails(conflict).metadata.at("layer_0_position"), "10");
  EXPECT_EQ(second.position(0), 4);
  ASSERT_TRUE(second.Refresh().ok());
  EXPECT_TRUE(second.Append(Input({0}, 10, data, data)).ok());

  // A truncation raises the revision.
  ASSERT_TRUE(second.Truncate(5).ok());
  const absl::Status revision = first.Append(Input({0}, 10, data, data));
  EXPECT_EQ(client::GetErrorDetails(revision).reason, "REVISION_CONFLICT");
}

TEST_F(ClientAndServerTest, AppendThatFailedHalfwayIsNotAddedTwice) {
  // Room for some chunks of the second session's append, but not for all, beside the first session.
  ServerOptions options;
  options.max_message_bytes = 256 << 10;
  options.kv_memory.bytes = 8 << 20;
  StartServer(options);
  const auto client = Connect();
  const std::string data = RandomHalves(8192 * kKvHeads * kHeadDim, 1);
  Session filler = client->CreateSession(Options(1, "fp16", 0)).value();
  ASSERT_TRUE(filler.Append(Input({0}, 8192, data, data)).ok());
  Session session = client->CreateSession(Options(1, "fp16", 0)).value();
  const absl::Status full = session.Append(Input({0}, 8192, data, data));
  EXPECT_EQ(client::GetErrorDetails(full).reason, "ARENA_FULL") << full;
  EXPECT_EQ(session.position(0), 0);
  const int64_t held = client->OpenSession(session.name())->position(0);
  EXPECT_GT(held, 0);
  EXPECT_LT(held, 8192);

  ASSERT_TRUE(filler.Delete().ok());
  const absl::Status again = session.Append(Input({0}, 8192, data, data));
  EXPECT_TRUE(again.ok()) << again;
  EXPECT_EQ(session.position(0), 8192);
  EXPECT_EQ(client->OpenSession(session.name())->position(0), 8192);
}

TEST_F(ClientAndServerTest, BatchesForksAndShards) {
  client::ClientOptions options;
  options.send_shard = true;
  const auto client = client::Client::Connect(target(), options).value();
  std::vector<Session> sessions;
  for (int i = 0; i < 4; ++i) {
    client::SessionOptions session = Options(1, "int8", 0);
    session.shard = i % 2 == 0 ? "even" : "odd";
    sessions.push_back(client->CreateSession(session).value());
    EXPECT_EQ(sessions.back().info().shard(), session.shard);
  }
  std::vector<std::string> data;
  std::vector<client::AppendItem> appends;
  for (int i = 0; i < 4; ++i) data.push_back(RandomHalves((65 + i) * kKvHeads * kHeadDim, i));
  for (int i = 0; i < 4; ++i)
    appends.push_back({&sessions[i], Input({0}, 65 + i, data[i], data[i])});
  for (const absl::Status& status : client->Append(appends)) EXPECT_TRUE(status.ok()) << status;

  sessions.push_back(sessions[1].Fork("copy").value());
  EXPECT_EQ(sessions.back().info().shard(), "odd");
  const std::string queries = RandomHalves(2 * kKvHeads * kHeadDim, 9);
  std::vector<client::AttendItem> items;
  for (const Session& session : sessions) {
    items.push_back({&session, {.queries = AsBytes(absl::string_view(queries))}});
  }
  const auto outputs = client->Attend(items);
  ASSERT_THAT(outputs, SizeIs(5));
  for (size_t i = 0; i < outputs.size(); ++i) {
    ASSERT_TRUE(outputs[i].ok()) << outputs[i].status();
    const auto alone = sessions[i].Attend(items[i].query);
    EXPECT_EQ(outputs[i]->outputs.data(), alone->outputs.data());
  }
  EXPECT_EQ(outputs[4]->outputs.data(), outputs[1]->outputs.data());

  // Under another key the server does not know the session.
  const auto lost = client->OpenSession(sessions[0].name(), "odd");
  EXPECT_EQ(client::GetErrorDetails(lost.status()).reason, "WRONG_SHARD");
}

TEST_F(ClientAndServerTest, SessionsTakeWhatThePlanSays) {
  const auto client = Connect();
  for (const char* preset : {"balanced", "lean", "int8", "fp16"}) {
    for (int64_t window : {0, 10, 64}) {
      Session session = client->CreateSession(Options(2, preset, window)).value();
      PlanInput input = {.num_layers = 2,
                         .num_kv_heads = kKvHeads,
                         .head_dim = kHeadDim,
                         .memory_bytes = 1 << 30,
                         .recent_window = window,
                         .tokens_per_session = 1};
      const CodecPlan plan = PlanCodec(input, CodecFromPreset(preset, kHeadDim).value()).value();
      // The peak of exact tokens: one fewer than a block beyond the window.
      const int64_t tokens = 3 * 64 + window + 63;
      const std::string data = RandomHalves(2 * tokens * kKvHeads * kHeadDim, 1);
      ASSERT_TRUE(session.Append(Input({0, 1}, tokens, data, data)).ok());
      ASSERT_TRUE(session.Refresh().ok());
      const UnitCounts units = UnitsPerLayer(tokens, window);
      EXPECT_EQ(session.info().stored_bytes(),
                2 * (units.blocks * plan.block_bytes + units.pages * plan.page_bytes))
          << preset << " " << window;
      EXPECT_TRUE(session.Delete().ok());
    }
  }
}

TEST_F(ClientAndServerTest, TheArenaHoldsWhatIsPlannedAndNotMore) {
  constexpr int64_t kArenaBytes = 8 << 20;
  constexpr int kHeads = 8;
  constexpr int kDim = 128;
  ServerOptions options;
  options.kv_memory.bytes = kArenaBytes;
  StartServer(options);
  const auto client = Connect();
  const std::string data = RandomHalves(64 * kHeads * kDim, 1);
  for (const char* preset : {"balanced", "lean", "fp16"}) {
    const PlanInput input = {.num_layers = 1,
                             .num_kv_heads = kHeads,
                             .head_dim = kDim,
                             .memory_bytes = kArenaBytes,
                             .recent_window = 64,
                             .tokens_per_session = 1};
    const CodecPlan plan = PlanCodec(input, CodecFromPreset(preset, kDim).value()).value();
    Session session = client->CreateSession(Options(1, preset, 64, kHeads, kDim)).value();
    absl::Status status;
    while (status.ok()) status = session.Append(Input({0}, 64, data, data));
    EXPECT_EQ(client::GetErrorDetails(status).reason, "ARENA_FULL") << status;
    // Token by token up to the end.
    const std::string token = data.substr(0, kHeads * kDim * 2);
    status = absl::OkStatus();
    while (status.ok()) status = session.Append(Input({0}, 1, token, token));
    EXPECT_EQ(session.position(0), plan.tokens) << preset;
    EXPECT_TRUE(session.Delete().ok());
  }
}

}  // namespace
}  // namespace kvattend::cli
