#include "server/store/session_table.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/store/block_pool.h"

namespace kvattend {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const CodecSpec kCodec = {64, {16, 4}, {32, 2}};

std::unique_ptr<Session> MakeSession(std::string id, int num_layers = 1) {
  return std::make_unique<Session>(SessionConfig{.id = std::move(id),
                                                 .shape = {num_layers, 4, 2, 64},
                                                 .recent_window = 64,
                                                 .shard = "s",
                                                 .create_time = absl::FromUnixSeconds(5)},
                                   kCodec, UnitSizes{1024, 512});
}

std::vector<std::string> Ids(const std::vector<const Session*>& sessions) {
  std::vector<std::string> ids;
  for (const Session* session : sessions) ids.push_back(session->config().id);
  return ids;
}

TEST(SessionTableTest, FindsWhatWasInsertedUntilItIsErased) {
  SessionTable table;
  EXPECT_EQ(table.Find("a"), nullptr);
  table.Insert(MakeSession("a"));
  ASSERT_NE(table.Find("a"), nullptr);
  EXPECT_EQ(table.Find("a")->config().id, "a");
  EXPECT_EQ(table.size(), 1);
  table.Erase("a");
  EXPECT_EQ(table.Find("a"), nullptr);
  EXPECT_EQ(table.size(), 0);
}

TEST(SessionTableTest, ListsInByteOrder) {
  SessionTable table;
  for (const char* id : {"b", "a~", "a", "B", "a.b", "10", "9"}) table.Insert(MakeSession(id));
  EXPECT_THAT(Ids(table.ListAfter("", 100)), ElementsAre("10", "9", "B", "a", "a.b", "a~", "b"));
  EXPECT_THAT(Ids(table.ListAfter("", 2)), ElementsAre("10", "9"));
  EXPECT_THAT(Ids(table.ListAfter("9", 2)), ElementsAre("B", "a"));
  // An id that is gone, or never was, still marks a place.
  EXPECT_THAT(Ids(table.ListAfter("a+", 2)), ElementsAre("a.b", "a~"));
  EXPECT_THAT(table.ListAfter("b", 2), IsEmpty());
}

TEST(SessionTest, SaysWhatItHolds) {
  BlockPool pool(4 * kSlabBytes);
  const std::unique_ptr<Session> session = MakeSession("a", 2);
  std::vector<UnitList> units = *pool.Allocate({{1024, 1}, {512, 5}});
  session->layers()[1].CommitAppend(session->layers()[1].PlanAppend(129, 64), std::move(units[0]),
                                    std::move(units[1]));
  session->RaiseRevision();
  const SessionInfo info = session->Info();
  EXPECT_EQ(info.id, "a");
  EXPECT_EQ(info.shape, (ModelShape{2, 4, 2, 64}));
  EXPECT_EQ(info.codec, kCodec);
  EXPECT_EQ(info.recent_window, 64);
  EXPECT_EQ(info.revision, 2);
  EXPECT_THAT(info.layer_lengths, ElementsAre(0, 129));
  EXPECT_EQ(info.stored_bytes, 1024 + 5 * 512);
  EXPECT_EQ(info.dense_bytes, 129 * 2 * 64 * 2 * 2);
  EXPECT_EQ(info.shard, "s");
  EXPECT_EQ(info.create_time, absl::FromUnixSeconds(5));
}

TEST(SessionTest, AForkSharesEverything) {
  BlockPool pool(4 * kSlabBytes);
  std::unique_ptr<Session> session = MakeSession("a");
  std::vector<UnitList> units = *pool.Allocate({{1024, 1}, {512, 5}});
  session->layers()[0].CommitAppend(session->layers()[0].PlanAppend(129, 64), std::move(units[0]),
                                    std::move(units[1]));
  session->RaiseRevision();
  const uint64_t used = pool.used_bytes();
  SessionConfig config = session->config();
  config.id = "b";
  std::unique_ptr<Session> fork = session->Fork(std::move(config));
  EXPECT_EQ(fork->revision(), 1);
  EXPECT_EQ(fork->Info().stored_bytes, session->Info().stored_bytes);
  EXPECT_EQ(pool.used_bytes(), used);
  session.reset();
  EXPECT_EQ(pool.used_bytes(), used);
  EXPECT_EQ(fork->layers()[0].length(), 129);
  fork.reset();
  EXPECT_EQ(pool.used_bytes(), 0u);
}

}  // namespace
}  // namespace kvattend
