// Whole files, and tensors in raw files.
#ifndef KVATTEND_CLIENT_CLI_FILES_H_
#define KVATTEND_CLIENT_CLI_FILES_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kvattend::cli {

// NOT_FOUND where there is no such file; UNKNOWN where it cannot be read.
absl::StatusOr<std::string> ReadFile(const std::string& path);

// As ReadFile; INVALID_ARGUMENT unless the file has exactly `size_bytes`.
absl::StatusOr<std::string> ReadTensorFile(const std::string& path, int64_t size_bytes);

// Replaces the file.
absl::Status WriteFile(const std::string& path, absl::string_view data);

// [outer, inner, row] to [inner, outer, row], rows of row_bytes.
std::string SwapOuterDimensions(absl::string_view data, int64_t outer, int64_t inner,
                                int64_t row_bytes);

}  // namespace kvattend::cli

#endif  // KVATTEND_CLIENT_CLI_FILES_H_
