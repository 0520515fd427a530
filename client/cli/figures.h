// Figures that were expected and found, and their comparison.
//
// Thread-safe: plain values and pure functions.
#ifndef KVATTEND_CLIENT_CLI_FIGURES_H_
#define KVATTEND_CLIENT_CLI_FIGURES_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "client/cli/json.h"

namespace kvattend::cli {

// How far a figure may be from the expected one.
enum class Precision {
  // The same number; only for whole numbers.
  kExact,
  // The same float16 pattern.
  kHalfPattern,
  // A share of fp16's bytes, stated to four digits after the point.
  kShare,
  // Computed in float16 by the documents, whose kernels round in other places: one unit in the last
  // place of float16 at that magnitude.
  kHalfArithmetic,
};

// A list of one number stands for the number too.
struct FoundFigure {
  std::variant<std::vector<int64_t>, std::vector<double>> values;
  Precision precision = Precision::kExact;
};

// (group, name) to figure.
using FoundFigures = std::map<std::pair<std::string, std::string>, FoundFigure>;

// A figure, compared.
struct Figure {
  std::string group;
  std::string name;
  std::string expected;
  std::string found;
  bool ok = false;
};

// One result for each figure of `expected` ({group: {name: number or list}}), in its order. A
// figure that was not found differs, and so does one that was found but is not expected: it comes
// last.
std::vector<Figure> CompareFigures(const Json& expected, const FoundFigures& found);

}  // namespace kvattend::cli

#endif  // KVATTEND_CLIENT_CLI_FIGURES_H_
