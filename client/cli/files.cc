#include "client/cli/files.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"

namespace kvattend::cli {

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    return absl::NotFoundError(absl::StrCat("there is no file ", path));
  }
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  // Copying nothing sets failbit: an empty file reads as an empty string.
  if (!file.is_open() || file.bad()) {
    return absl::UnknownError(absl::StrCat("cannot read ", path));
  }
  return std::move(text).str();
}

absl::StatusOr<std::string> ReadTensorFile(const std::string& path, int64_t size_bytes) {
  auto data = ReadFile(path);
  if (data.ok() && static_cast<int64_t>(data->size()) != size_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " has ", data->size(), " bytes; its shape and type make ", size_bytes));
  }
  return data;
}

absl::Status WriteFile(const std::string& path, absl::string_view data) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(data.data(), static_cast<std::streamsize>(data.size()));
  file.close();
  if (!file) return absl::UnknownError(absl::StrCat("cannot write ", path));
  return absl::OkStatus();
}

std::string SwapOuterDimensions(absl::string_view data, int64_t outer, int64_t inner,
                                int64_t row_bytes) {
  std::string swapped;
  swapped.reserve(data.size());
  for (int64_t i = 0; i < inner; ++i) {
    for (int64_t o = 0; o < outer; ++o) {
      const absl::string_view row = data.substr((o * inner + i) * row_bytes, row_bytes);
      swapped.append(row.data(), row.size());
    }
  }
  return swapped;
}

}  // namespace kvattend::cli
