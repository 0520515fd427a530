#include "client/cli/figures.h"

#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cpp/tensor.h"

namespace kvattend::cli {
namespace {

constexpr char kNothing[] = "-";

// One unit in the last place of a float16 of this magnitude, at least that of the smallest normal.
double HalfUnit(double value) {
  const int exponent = value == 0 ? -14 : std::max(std::ilogb(value), -14);
  return std::ldexp(1.0, exponent - 10);
}

bool IsClose(double expected, double found, Precision precision) {
  const double error = std::abs(expected - found);
  switch (precision) {
    case Precision::kExact:
      return error == 0;
    case Precision::kHalfPattern:
      return client::FloatToHalf(static_cast<float>(expected)) ==
             client::FloatToHalf(static_cast<float>(found));
    case Precision::kShare:
      return error <= 0.5e-4;
    case Precision::kHalfArithmetic:
      // The documents state four digits after the point at least: half of the last one more.
      return error <= HalfUnit(expected) + 0.5e-4;
  }
  return false;
}

// The shortest decimal number that rounds to the float16.
std::string ShortestHalfText(double half) {
  const uint16_t pattern = client::FloatToHalf(static_cast<float>(half));
  std::string text;
  for (int digits = 1; digits <= 5; ++digits) {
    text = absl::StrFormat("%.*g", digits, half);
    float value = 0;
    if (absl::SimpleAtof(text, &value) && client::FloatToHalf(value) == pattern) break;
  }
  return text;
}

std::string NumberText(double number, Precision precision) {
  if (precision == Precision::kShare) return absl::StrFormat("%.2f %%", 100 * number);
  if (precision == Precision::kHalfPattern) return ShortestHalfText(number);
  // As many digits as the documents have.
  return absl::StrFormat("%.*g", std::abs(number) < 1 ? 5 : 8, number);
}

// `expected` as a list, and compared with the numbers found.
Figure Compare(const Json& expected, const FoundFigure& found) {
  const Json list = expected.is_array() ? expected : Json::array({expected});
  std::vector<std::string> expected_texts, found_texts;
  Figure figure;
  if (const auto* integers = std::get_if<std::vector<int64_t>>(&found.values)) {
    figure.ok = list.size() == integers->size();
    for (int64_t value : *integers) found_texts.push_back(absl::StrCat(value));
    for (size_t i = 0; i < list.size(); ++i) {
      expected_texts.push_back(list[i].dump());
      figure.ok =
          figure.ok && list[i].is_number_integer() && list[i].get<int64_t>() == (*integers)[i];
    }
  } else {
    const auto& numbers = std::get<std::vector<double>>(found.values);
    figure.ok = list.size() == numbers.size();
    for (double value : numbers) found_texts.push_back(NumberText(value, found.precision));
    for (size_t i = 0; i < list.size(); ++i) {
      const bool is_number = list[i].is_number();
      expected_texts.push_back(is_number ? NumberText(list[i].get<double>(), found.precision)
                                         : list[i].dump());
      figure.ok =
          figure.ok && is_number && IsClose(list[i].get<double>(), numbers[i], found.precision);
    }
  }
  figure.expected = absl::StrJoin(expected_texts, " ");
  figure.found = absl::StrJoin(found_texts, " ");
  return figure;
}

}  // namespace

std::vector<Figure> CompareFigures(const Json& expected, const FoundFigures& found) {
  std::vector<Figure> figures;
  for (const auto& [group, members] : expected.items()) {
    for (const auto& [name, value] : members.items()) {
      const auto entry = found.find({group, name});
      Figure figure = entry == found.end() ? Figure{.expected = value.dump(), .found = kNothing}
                                           : Compare(value, entry->second);
      figure.group = group;
      figure.name = name;
      figures.push_back(std::move(figure));
    }
  }
  for (const auto& [key, figure] : found) {
    const auto& [group, name] = key;
    if (expected.contains(group) && expected[group].contains(name)) continue;
    Figure missing = Compare(Json::array(), figure);
    figures.push_back({group, name, kNothing, missing.found, false});
  }
  return figures;
}

}  // namespace kvattend::cli
