// Values that options take, and how figures are written.
//
// Thread-safe: pure functions.
#ifndef KVATTEND_CLIENT_CLI_VALUES_H_
#define KVATTEND_CLIENT_CLI_VALUES_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "kvattend/v1/types.pb.h"

namespace kvattend::cli {

// "80GiB", "512 MiB", "2e9", "24GB": bytes. Units of 1024 (KiB, MiB, GiB, TiB), of 1000 (KB, MB,
// GB, TB) and B. A usage error for anything else, and for less than one byte.
absl::StatusOr<int64_t> ParseBytes(absl::string_view text);

// "layers=32,kv_heads=8": names and positive whole numbers, in the order given. A usage error for
// anything else and for a name that comes twice.
absl::StatusOr<std::vector<std::pair<std::string, int64_t>>> ParseDimensions(
    absl::string_view text);

// A preset's name ("balanced"), or kept@bits of keys and values, "38@4/128@2". Whether there is
// such a codec is for the server to say. A usage error where it is neither.
absl::StatusOr<v1::Codec> ParseCodec(absl::string_view text);

// "38@4 / 128@2".
std::string CodecText(const v1::Codec& codec);
// "float16", "bfloat16", "float32".
std::string DataTypeText(v1::DataType dtype);
absl::StatusOr<v1::DataType> ParseDataType(absl::string_view text);

// "1.50 GiB", "512 B".
std::string BytesText(int64_t bytes);
// "1,234,567".
std::string CountText(int64_t count);
// "12.3 us", "4.56 ms", "1.23 s".
std::string DurationText(absl::Duration duration);

}  // namespace kvattend::cli

#endif  // KVATTEND_CLIENT_CLI_VALUES_H_
