#include "server/rpc/names.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace kvattend {
namespace {

constexpr absl::string_view kInvalidSessionName = "INVALID_SESSION_NAME";
constexpr absl::string_view kSessionPrefix = "sessions/";
constexpr size_t kMaxIdLength = 128;
constexpr size_t kMaxShardLength = 256;
// Of a page token's content, so that a later version can change it.
constexpr absl::string_view kPageTokenVersion = "1:";

bool IsIdCharacter(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '~' ||
         c == '-';
}

bool IsSessionId(absl::string_view id) {
  return !id.empty() && id.size() <= kMaxIdLength &&
         absl::ascii_isalnum(static_cast<unsigned char>(id[0])) &&
         std::all_of(id.begin(), id.end(), IsIdCharacter);
}

}  // namespace

absl::Status ValidateSessionId(absl::string_view id, const FieldPath& field) {
  if (IsSessionId(id)) return absl::OkStatus();
  return InvalidField(kInvalidSessionName, field,
                      absl::StrCat("expected 1 to 128 characters of [A-Za-z0-9._~-], the first one "
                                   "a letter or a digit, found ",
                                   Quote(id)));
}

std::string SessionName(absl::string_view id) { return absl::StrCat(kSessionPrefix, id); }

absl::StatusOr<std::string> ParseSessionName(absl::string_view name, const FieldPath& field) {
  absl::string_view id = name;
  if (absl::ConsumePrefix(&id, kSessionPrefix) && IsSessionId(id)) return std::string(id);
  return InvalidField(kInvalidSessionName, field,
                      absl::StrCat("expected \"sessions/{id}\" with an id of 1 to 128 characters "
                                   "of [A-Za-z0-9._~-], the first one a letter or a digit, found ",
                                   Quote(name)));
}

absl::Status ValidateShard(absl::string_view shard) {
  const bool printable = std::all_of(shard.begin(), shard.end(), [](char c) {
    return absl::ascii_isprint(static_cast<unsigned char>(c));
  });
  if (printable && !shard.empty() && shard.size() <= kMaxShardLength) return absl::OkStatus();
  return InvalidField(
      "INVALID_SHARD", {"x-kvattend-shard"},
      absl::StrCat("expected 1 to 256 printable ASCII characters, found ", Quote(shard)));
}

std::string MakePageToken(absl::string_view after) {
  return after.empty() ? "" : absl::WebSafeBase64Escape(absl::StrCat(kPageTokenVersion, after));
}

absl::StatusOr<std::string> ParsePageToken(absl::string_view token) {
  if (token.empty()) return std::string();
  // The longest token of an id of 128 characters; more is not worth decoding.
  constexpr size_t kMaxTokenLength = (kMaxIdLength + kPageTokenVersion.size() + 2) / 3 * 4;
  std::string content;
  if (token.size() <= kMaxTokenLength && absl::WebSafeBase64Unescape(token, &content)) {
    absl::string_view id = content;
    if (absl::ConsumePrefix(&id, kPageTokenVersion) && IsSessionId(id)) return std::string(id);
  }
  return InvalidField(
      "INVALID_PAGE_TOKEN", {"page_token"},
      absl::StrCat("expected next_page_token of an earlier answer, found ", Quote(token)));
}

}  // namespace kvattend
