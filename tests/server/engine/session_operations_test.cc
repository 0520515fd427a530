#include "server/engine/session_operations.h"

#include <deque>

#include "tests/server/engine/puppet_engine_test.h"

namespace kvattend::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;

// Gives words of a list, so that a test knows the ids.
class SessionOperationsTest : public PuppetEngineTest {
 protected:
  SessionOperationsTest()
      : PuppetEngineTest({.max_sessions = 4, .random = [this] {
                            const uint64_t word = words_.front();
                            words_.pop_front();
                            return word;
                          }}) {}

  std::vector<std::string> Ids(const SessionPage& page) {
    std::vector<std::string> ids;
    for (const SessionInfo& session : page.sessions) ids.push_back(session.id);
    return ids;
  }

  std::deque<uint64_t> words_;
};

TEST_F(SessionOperationsTest, CreatesAnEmptySession) {
  CreateSessionParams params = Params("a");
  params.recent_window = 100;
  const absl::StatusOr<SessionInfo> info = harness_.Create(params);
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->id, "a");
  EXPECT_EQ(info->shape, params.shape);
  EXPECT_EQ(info->codec, kCodec);
  EXPECT_EQ(info->recent_window, 100);
  EXPECT_EQ(info->revision, 1);
  EXPECT_THAT(info->layer_lengths, ElementsAre(0, 0, 0));
  EXPECT_EQ(info->stored_bytes, 0);
  EXPECT_EQ(info->dense_bytes, 0);
  EXPECT_EQ(info->shard, "a");
  EXPECT_EQ(info->create_time, harness_.clock().Now());
  EXPECT_EQ(harness_.engine().memory_use().num_sessions, 1);
  EXPECT_EQ(harness_.metrics().Get().memory.num_sessions, 1);
}

TEST_F(SessionOperationsTest, ChoosesFreeIds) {
  words_ = {1, 2, 1, 2, 0xfedcba9876543210, 3};
  EXPECT_EQ(harness_.Create(Params(""))->id, "00000000000000010000000000000002");
  EXPECT_EQ(harness_.Create(Params(""))->id, "fedcba98765432100000000000000003");
  EXPECT_TRUE(words_.empty());
}

TEST(SessionIdTest, IsRandomByDefault) {
  PuppetBackend backend(kSlabBytes);
  EngineHarness harness(&backend);
  const CreateSessionParams params = {.shape = {1, 1, 1, 64}, .codec = {64, {32, 4}, {32, 4}}};
  const std::string first = harness.Create(params)->id;
  EXPECT_THAT(first, MatchesRegex("[0-9a-f]{32}"));
  EXPECT_NE(first, harness.Create(params)->id);
}

TEST_F(SessionOperationsTest, RefusesAnIdThatIsTaken) {
  Create("a");
  Create("b");
  for (const absl::Status& status :
       {harness_.Create(Params("a")).status(), harness_.Fork("a", "b").status(),
        harness_.Fork("a", "a").status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
    EXPECT_EQ(ReasonOf(status), "SESSION_EXISTS");
  }
  EXPECT_EQ(harness_.engine().memory_use().num_sessions, 2);
}

TEST_F(SessionOperationsTest, RefusesMoreSessionsThanAllowed) {
  for (const char* id : {"a", "b", "c", "d"}) Create(id);
  for (const absl::Status& status :
       {harness_.Create(Params("e")).status(), harness_.Fork("a", "e").status(),
        harness_.Create(Params("")).status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(ReasonOf(status), "TOO_MANY_SESSIONS");
  }
  EXPECT_EQ(harness_.metrics().Get().rejected[RejectReason::kTooManySessions], 3);
  ASSERT_TRUE(harness_.Delete("b").ok());
  Create("e");
}

TEST_F(SessionOperationsTest, RefusesUnitsAboveASlab) {
  CreateSessionParams params = Params("a");
  params.shape = {1, 256, 256, 256};
  // Blocks of such sparse a codec fit, exact pages do not.
  params.codec = {256, {1, 2}, {1, 2}};
  const absl::Status status = harness_.Create(params).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReasonOf(status), "SHAPE_TOO_LARGE");
}

TEST_F(SessionOperationsTest, GetsWhatIsThere) {
  Create("a");
  Fill("a", 10);
  const absl::StatusOr<SessionInfo> info = harness_.Get("a");
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_THAT(info->layer_lengths, ElementsAre(10, 10, 10));
  EXPECT_EQ(info->stored_bytes, 3 * page_bytes());
  EXPECT_EQ(info->dense_bytes, 3 * 10 * 2 * 64 * 4);
}

TEST_F(SessionOperationsTest, SaysWhichSessionIsUnknown) {
  for (const absl::Status& status :
       {harness_.Get("a").status(), harness_.Delete("a").status(), harness_.Fork("a", "b").status(),
        harness_.Truncate("a", 0).status(), harness_.Compress("a", 0).status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
    EXPECT_EQ(ReasonOf(status), "SESSION_NOT_FOUND");
    EXPECT_EQ(GetErrorDetails(status).session, "sessions/a");
  }
}

TEST_F(SessionOperationsTest, ChecksTheShardOfTheCall) {
  CreateSessionParams params = Params("a");
  params.shard = "s";
  EXPECT_EQ(harness_.Create(params)->shard, "s");
  EXPECT_TRUE(harness_.Get("a", {.shard = "s"}).ok());
  EXPECT_TRUE(harness_.Get("a").ok());
  for (const absl::Status& status :
       {harness_.Get("a", {.shard = "a"}).status(), harness_.Delete("a", {.shard = "t"}).status(),
        harness_.Fork("a", "b", {.shard = "t"}).status(),
        AppendOne(Entry("a", {0}, 0, 1), 0, {.shard = "t"}).status}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(ReasonOf(status), "WRONG_SHARD");
  }
  EXPECT_EQ(harness_.Fork("a", "b", {.shard = "s"})->shard, "s");
}

TEST_F(SessionOperationsTest, ListsPageByPage) {
  for (const char* id : {"c", "a", "d", "b"}) Create(id);
  absl::StatusOr<SessionPage> page = harness_.List("", 2);
  ASSERT_TRUE(page.ok());
  EXPECT_THAT(Ids(*page), ElementsAre("a", "b"));
  EXPECT_EQ(page->next_after, "b");
  page = harness_.List(page->next_after, 2);
  EXPECT_THAT(Ids(*page), ElementsAre("c", "d"));
  EXPECT_EQ(page->next_after, "");
  EXPECT_THAT(Ids(*harness_.List("", 4)), ElementsAre("a", "b", "c", "d"));
  EXPECT_EQ(harness_.List("", 4)->next_after, "");
  EXPECT_THAT(harness_.List("d", 4)->sessions, IsEmpty());
}

TEST_F(SessionOperationsTest, DeletingFreesWhatNobodyElseHas) {
  Create("a");
  Fill("a", 130);
  const int64_t stored = kv_bytes();
  EXPECT_EQ(stored, 3 * (block_bytes() + 5 * page_bytes()));
  ASSERT_TRUE(harness_.Fork("a", "b").ok());
  EXPECT_EQ(kv_bytes(), stored);
  // The fork gets its own last page, and one block: 65 + 64 exact tokens are left.
  ASSERT_TRUE(AppendOne(Entry("b", {0}, 130, 1)).status.ok());
  EXPECT_EQ(kv_bytes(), stored + page_bytes());
  EXPECT_EQ(*harness_.Delete("a"), page_bytes());
  EXPECT_EQ(*harness_.Delete("b"), stored);
  EXPECT_EQ(kv_bytes(), 0);
  EXPECT_EQ(harness_.engine().memory_use().dense_bytes, 0);
  EXPECT_EQ(harness_.metrics().Get().closed, 2);
}

TEST_F(SessionOperationsTest, ForksAreIndependent) {
  Create("a");
  Fill("a", 200);
  harness_.clock().Advance(absl::Seconds(5));
  const absl::StatusOr<SessionInfo> fork = harness_.Fork("a", "b");
  ASSERT_TRUE(fork.ok());
  EXPECT_EQ(fork->revision, 1);
  EXPECT_EQ(fork->create_time, harness_.clock().Now());
  EXPECT_THAT(fork->layer_lengths, ElementsAre(200, 200, 200));
  // Both go on differently from the same page.
  ASSERT_TRUE(AppendOne(Entry("a", {0, 1, 2}, 200, 3)).status.ok());
  ASSERT_TRUE(AppendOne(Entry("b", {0, 1, 2}, 200, 3), 1000).status.ok());
  EXPECT_EQ(TokensOf("a", 1), Range(0, 203));
  std::vector<int> expected = Range(0, 200);
  for (int tag : Range(1200, 1203)) expected.push_back(tag);
  EXPECT_EQ(TokensOf("b", 1), expected);
  ASSERT_TRUE(harness_.Delete("a").ok());
  EXPECT_EQ(TokensOf("b", 1), expected);
}

}  // namespace
}  // namespace kvattend::testing
