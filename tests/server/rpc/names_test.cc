#include "server/rpc/names.h"

#include <string>

#include "gtest/gtest.h"
#include "tests/server/rpc/expect_error.h"

namespace kvattend {
namespace {

const char* const kBadIds[] = {"",   ".a",  "-a", "_a",    "~a",   "a b",
                               "a/", "a\n", "ä",  "a\x7f", "a%2f", "sessions/a"};

TEST(NamesTest, SessionIds) {
  for (const std::string& id :
       {std::string("a"), std::string("7"), std::string("chat-17.b_c~D"), std::string(128, 'x')}) {
    EXPECT_TRUE(ValidateSessionId(id, {"session_id"}).ok()) << id;
    EXPECT_EQ(*ParseSessionName(SessionName(id), {"name"}), id);
  }
  for (const char* id : kBadIds) {
    ExpectInvalid(ValidateSessionId(id, {"session_id"}), "INVALID_SESSION_NAME", "session_id");
    ExpectInvalid(ParseSessionName(SessionName(id), {"session", 2}).status(),
                  "INVALID_SESSION_NAME", "items[2].session");
  }
  ExpectInvalid(ValidateSessionId(std::string(129, 'x'), {"session_id"}), "INVALID_SESSION_NAME",
                "session_id");
  ExpectInvalid(ValidateSessionId(absl::string_view("a\0b", 3), {"session_id"}),
                "INVALID_SESSION_NAME", "session_id");
}

TEST(NamesTest, SessionNamesNeedThePrefix) {
  for (const char* name : {"", "a", "session/a", "Sessions/a", "sessions", "/sessions/a"}) {
    ExpectInvalid(ParseSessionName(name, {"name"}).status(), "INVALID_SESSION_NAME", "name");
  }
}

TEST(NamesTest, HugeNamesAreNotEchoed) {
  const std::string huge = "sessions/" + std::string(1 << 20, 'x');
  const absl::Status status = ParseSessionName(huge, {"name"}).status();
  ExpectInvalid(status, "INVALID_SESSION_NAME", "name");
  EXPECT_LT(status.message().size(), 400u);
}

TEST(NamesTest, Shards) {
  EXPECT_TRUE(ValidateShard("a shard: ~!").ok());
  EXPECT_TRUE(ValidateShard(std::string(256, 's')).ok());
  for (const std::string& shard :
       {std::string(), std::string(257, 's'), std::string("a\tb"), std::string("\xc3\xa4")}) {
    ExpectInvalid(ValidateShard(shard), "INVALID_SHARD", "x-kvattend-shard");
  }
}

TEST(NamesTest, PageTokensComeBack) {
  EXPECT_EQ(MakePageToken(""), "");
  EXPECT_EQ(*ParsePageToken(""), "");
  for (const std::string& id : {std::string("a"), std::string("chat-17"), std::string(128, 'z')}) {
    const absl::StatusOr<std::string> after = ParsePageToken(MakePageToken(id));
    ASSERT_TRUE(after.ok()) << after.status();
    EXPECT_EQ(*after, id);
  }
}

TEST(NamesTest, OtherPageTokensAreRefused) {
  for (const std::string& token : {std::string("x"), std::string("chat-17"), std::string("MTo"),
                                   std::string("!!!!"), std::string(1 << 20, 'A')}) {
    ExpectInvalid(ParsePageToken(token).status(), "INVALID_PAGE_TOKEN", "page_token");
  }
}

}  // namespace
}  // namespace kvattend
