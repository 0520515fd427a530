#include "server/rpc/request_context.h"

#include <set>
#include <string>

#include "gtest/gtest.h"
#include "tests/server/rpc/expect_error.h"

namespace kvattend {
namespace {

constexpr char kTrace[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

TEST(RequestContextTest, KeepsSaneRequestIds) {
  EXPECT_EQ(RequestId({{"x-request-id", "abc-1/2"}}), "abc-1/2");
  const std::string longest(128, 'r');
  EXPECT_EQ(RequestId({{"x-request-id", longest}}), longest);
}

TEST(RequestContextTest, MakesRequestIdsOtherwise) {
  std::set<std::string> ids;
  const std::string too_long(129, 'r');
  for (const std::string& sent :
       {std::string(), std::string("a b"), std::string("a\nb"), std::string("\xc3"), too_long}) {
    ids.insert(RequestId({{"x-request-id", sent}}));
  }
  ids.insert(RequestId({}));
  EXPECT_EQ(ids.size(), 6u);
  for (const std::string& id : ids) {
    EXPECT_EQ(id.size(), 32u);
    EXPECT_EQ(id.find_first_not_of("0123456789abcdef"), std::string::npos);
  }
}

TEST(RequestContextTest, Traceparents) {
  EXPECT_EQ(Traceparent({{"traceparent", kTrace}}), kTrace);
  EXPECT_EQ(Traceparent({}), "");
  EXPECT_EQ(Traceparent({{"traceparent", "00-x"}}), "");
  EXPECT_EQ(
      Traceparent({{"traceparent", "00\"4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}}),
      "");
}

TEST(RequestContextTest, Shards) {
  EXPECT_EQ(*Shard({}), "");
  EXPECT_EQ(*Shard({{"x-kvattend-shard", "s1"}}), "s1");
  EXPECT_EQ(*Shard({{"x-kvattend-shard", "s1"}, {"x-kvattend-shard", "s1"}}), "s1");
  ExpectInvalid(Shard({{"x-kvattend-shard", ""}}).status(), "INVALID_SHARD", "x-kvattend-shard");
  ExpectInvalid(Shard({{"x-kvattend-shard", "s1"}, {"x-kvattend-shard", "s2"}}).status(),
                "INVALID_SHARD", "x-kvattend-shard");
}

TEST(RequestContextTest, Deadlines) {
  using Clock = std::chrono::system_clock;
  EXPECT_EQ(DeadlineTime(Clock::time_point::max()), absl::InfiniteFuture());
  EXPECT_EQ(DeadlineTime(Clock::time_point(std::chrono::seconds(1000))),
            absl::FromUnixSeconds(1000));
}

}  // namespace
}  // namespace kvattend
