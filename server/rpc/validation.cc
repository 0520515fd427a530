#include "server/rpc/validation.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace kvattend {
namespace {

// Of an echoed value: enough to recognise it, too little to flood a log or a trailer.
constexpr size_t kMaxQuotedLength = 64;

}  // namespace

std::string FieldPath::ToString() const {
  return item < 0 ? std::string(name) : absl::StrCat("items[", item, "].", name);
}

std::string Quote(absl::string_view value) {
  if (value.size() <= kMaxQuotedLength) return absl::StrCat("\"", absl::CHexEscape(value), "\"");
  return absl::StrCat("\"", absl::CHexEscape(value.substr(0, kMaxQuotedLength)), "\"... (",
                      value.size(), " bytes)");
}

Error InvalidField(absl::string_view reason, const FieldPath& field, absl::string_view problem) {
  const std::string path = field.ToString();
  Error error(absl::StatusCode::kInvalidArgument, reason, absl::StrCat(path, ": ", problem));
  error.Field(path);
  return error;
}

absl::Status CheckRange(const FieldPath& field, int64_t value, int64_t least, int64_t most) {
  if (least <= value && value <= most) return absl::OkStatus();
  return InvalidField("VALUE_OUT_OF_RANGE", field,
                      absl::StrCat("expected ", least, " to ", most, ", found ", value));
}

absl::Status CheckNumItems(int num_items, int max_items) {
  if (num_items < 1)
    return InvalidField("NO_ITEMS", {"items"}, "expected at least one, found none");
  if (num_items <= max_items) return absl::OkStatus();
  return InvalidField("TOO_MANY_ITEMS", {"items"},
                      absl::StrCat("expected at most ", max_items, ", found ", num_items));
}

std::optional<int64_t> CheckedProduct(std::initializer_list<int64_t> factors) {
  int64_t product = 1;
  for (const int64_t factor : factors) {
    if (__builtin_mul_overflow(product, factor, &product)) return std::nullopt;
  }
  return product;
}

void ByteTotal::Add(std::optional<int64_t> elements, int element_bytes) {
  if (!value_.has_value()) return;
  int64_t bytes = 0;
  const bool fits = elements.has_value() &&
                    !__builtin_mul_overflow(*elements, element_bytes, &bytes) &&
                    !__builtin_add_overflow(*value_, bytes, &bytes);
  value_ = fits ? std::optional<int64_t>(bytes) : std::nullopt;
}

absl::Status CheckByteCount(const FieldPath& field, std::optional<int64_t> expected, size_t found) {
  if (expected.has_value() && static_cast<uint64_t>(*expected) == found) return absl::OkStatus();
  return InvalidField(
      "BYTE_COUNT_MISMATCH", field,
      absl::StrCat("expected ", expected.has_value() ? absl::StrCat(*expected) : "over 2^63",
                   " bytes by the shapes given, found ", found));
}

absl::Status CheckRequestSize(int64_t size_bytes, int64_t max_bytes) {
  if (size_bytes <= max_bytes) return absl::OkStatus();
  return Error(absl::StatusCode::kResourceExhausted, "MESSAGE_TOO_LARGE",
               absl::StrCat("the request has ", size_bytes, " bytes, more than the limit of ",
                            max_bytes, ": send it in parts"))
      .With("request_bytes", size_bytes)
      .With("max_message_bytes", max_bytes);
}

absl::Status CheckAnswerSize(int64_t size_bytes, int64_t max_bytes) {
  if (size_bytes <= max_bytes) return absl::OkStatus();
  return Error(absl::StatusCode::kResourceExhausted, "RESPONSE_TOO_LARGE",
               absl::StrCat("the answer would take ", size_bytes, " bytes, more than the limit of ",
                            max_bytes, ": ask for less in a call"))
      .With("answer_bytes", size_bytes)
      .With("max_message_bytes", max_bytes);
}

}  // namespace kvattend
