// What all codecs of this folder check with: ranges, and errors that name the field.
//
// Every message reads "<field>: expected <what>, found <what>".
#ifndef KVATTEND_SERVER_RPC_VALIDATION_H_
#define KVATTEND_SERVER_RPC_VALIDATION_H_

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/base/error.h"

namespace kvattend {

// The path of a request's field; made a string only where there is an error to tell.
struct FieldPath {
  absl::string_view name;
  // The index in `items`; -1: the field is not an item's.
  int item = -1;

  // "name", or "items[3].name".
  std::string ToString() const;
};

// `value` in quotes for messages and logs: what is not printable ASCII is escaped, and what follows
// the first 64 characters left out.
std::string Quote(absl::string_view value);

// INVALID_ARGUMENT `reason` with a BadRequest of `field`; the message is "<field>: <problem>".
Error InvalidField(absl::string_view reason, const FieldPath& field, absl::string_view problem);

// INVALID_ARGUMENT VALUE_OUT_OF_RANGE unless least <= value <= most.
absl::Status CheckRange(const FieldPath& field, int64_t value, int64_t least, int64_t most);

// INVALID_ARGUMENT NO_ITEMS or TOO_MANY_ITEMS unless 1 <= num_items <= max_items.
absl::Status CheckNumItems(int num_items, int max_items);

// The product of numbers that are not negative; nothing where it exceeds int64.
std::optional<int64_t> CheckedProduct(std::initializer_list<int64_t> factors);

// A sum of elements * element_bytes, each not negative; nothing once anything exceeds int64.
class ByteTotal {
 public:
  void Add(std::optional<int64_t> elements, int element_bytes);
  std::optional<int64_t> value() const { return value_; }

 private:
  std::optional<int64_t> value_ = 0;
};

// INVALID_ARGUMENT BYTE_COUNT_MISMATCH unless `found` is `expected`; nothing for `expected` stands
// for more than any message holds.
absl::Status CheckByteCount(const FieldPath& field, std::optional<int64_t> expected, size_t found);

// RESOURCE_EXHAUSTED MESSAGE_TOO_LARGE for a request of more than max_bytes.
absl::Status CheckRequestSize(int64_t size_bytes, int64_t max_bytes);

// RESOURCE_EXHAUSTED RESPONSE_TOO_LARGE if an answer of `size_bytes` exceeds `max_bytes`.
absl::Status CheckAnswerSize(int64_t size_bytes, int64_t max_bytes);

}  // namespace kvattend

#endif  // KVATTEND_SERVER_RPC_VALIDATION_H_
