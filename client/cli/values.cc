#include "client/cli/values.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "client/cli/arguments.h"

namespace kvattend::cli {
namespace {

// Bytes of a unit; 0 where there is no such unit.
double UnitBytes(absl::string_view unit) {
  static constexpr struct {
    const char* name;
    double bytes;
  } kUnits[] = {{"", 1},         {"b", 1},    {"kib", 0x1p10}, {"mib", 0x1p20}, {"gib", 0x1p30},
                {"tib", 0x1p40}, {"k", 1e3},  {"kb", 1e3},     {"m", 1e6},      {"mb", 1e6},
                {"g", 1e9},      {"gb", 1e9}, {"t", 1e12},     {"tb", 1e12}};
  const std::string lower = absl::AsciiStrToLower(unit);
  for (const auto& entry : kUnits) {
    if (lower == entry.name) return entry.bytes;
  }
  return 0;
}

bool ParseVectorFormat(absl::string_view text, v1::VectorFormat* format) {
  const std::vector<std::string> parts = absl::StrSplit(text, '@');
  int kept = 0;
  int bits = 0;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &kept) ||
      !absl::SimpleAtoi(parts[1], &bits)) {
    return false;
  }
  format->set_kept(kept);
  format->set_bits(bits);
  return true;
}

}  // namespace

absl::StatusOr<int64_t> ParseBytes(absl::string_view text) {
  const size_t number_end = std::min(text.find_first_not_of("0123456789.eE+"), text.size());
  // "e" is an exponent only before a digit: there is no unit that begins with it.
  const absl::string_view unit = absl::StripAsciiWhitespace(text.substr(number_end));
  double number = 0;
  const double bytes =
      absl::SimpleAtod(text.substr(0, number_end), &number) ? number * UnitBytes(unit) : 0;
  if (!(bytes >= 1) || bytes > 0x1p62) {
    return UsageError(absl::StrCat(
        "a size is a number with a unit such as 80GiB or 512MB; found \"", text, "\""));
  }
  return static_cast<int64_t>(bytes);
}

absl::StatusOr<std::vector<std::pair<std::string, int64_t>>> ParseDimensions(
    absl::string_view text) {
  std::vector<std::pair<std::string, int64_t>> dimensions;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    const std::pair<std::string, std::string> sides = absl::StrSplit(part, absl::MaxSplits('=', 1));
    const std::string name(absl::StripAsciiWhitespace(sides.first));
    int64_t size = 0;
    const bool is_new = std::none_of(dimensions.begin(), dimensions.end(),
                                     [&](const auto& known) { return known.first == name; });
    if (name.empty() || !is_new || !absl::SimpleAtoi(sides.second, &size) || size <= 0 ||
        size > (int64_t{1} << 40)) {
      return UsageError(
          absl::StrCat("dimensions are written name=number,name=number, each name once;"
                       " found \"",
                       text, "\""));
    }
    dimensions.emplace_back(name, size);
  }
  return dimensions;
}

absl::StatusOr<v1::Codec> ParseCodec(absl::string_view text) {
  v1::Codec codec;
  if (text.find('@') == absl::string_view::npos) {
    codec.set_preset(std::string(text));
    return codec;
  }
  const std::vector<std::string> sides = absl::StrSplit(text, '/');
  if (sides.size() != 2 || !ParseVectorFormat(sides[0], codec.mutable_keys()) ||
      !ParseVectorFormat(sides[1], codec.mutable_values())) {
    return UsageError(absl::StrCat(
        "a codec is a preset's name, or kept@bits of keys / values such as 38@4/128@2; found \"",
        text, "\""));
  }
  return codec;
}

std::string CodecText(const v1::Codec& codec) {
  return absl::StrCat(codec.keys().kept(), "@", codec.keys().bits(), " / ", codec.values().kept(),
                      "@", codec.values().bits());
}

std::string DataTypeText(v1::DataType dtype) {
  switch (dtype) {
    case v1::DATA_TYPE_FLOAT16:
      return "float16";
    case v1::DATA_TYPE_BFLOAT16:
      return "bfloat16";
    case v1::DATA_TYPE_FLOAT32:
      return "float32";
    default:
      return "unknown";
  }
}

absl::StatusOr<v1::DataType> ParseDataType(absl::string_view text) {
  for (v1::DataType dtype :
       {v1::DATA_TYPE_FLOAT16, v1::DATA_TYPE_BFLOAT16, v1::DATA_TYPE_FLOAT32}) {
    if (text == DataTypeText(dtype)) return dtype;
  }
  return UsageError(
      absl::StrCat("a type is one of float16, bfloat16, float32; found \"", text, "\""));
}

std::string BytesText(int64_t bytes) {
  static constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  return absl::StrFormat("%.2f %s", value, kUnits[unit]);
}

std::string CountText(int64_t count) {
  const std::string digits = absl::StrCat(count);
  const size_t first_digit = count < 0 ? 1 : 0;
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > first_digit && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

std::string DurationText(absl::Duration duration) {
  const double micros = absl::ToDoubleMicroseconds(duration);
  if (micros < 1e3) return absl::StrFormat("%.1f us", micros);
  if (micros < 1e6) return absl::StrFormat("%.2f ms", micros / 1e3);
  return absl::StrFormat("%.2f s", micros / 1e6);
}

}  // namespace kvattend::cli
