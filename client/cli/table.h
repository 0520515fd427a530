// A table in plain text: a header, a rule, rows; columns aligned.
#ifndef KVATTEND_CLIENT_CLI_TABLE_H_
#define KVATTEND_CLIENT_CLI_TABLE_H_

#include <ostream>
#include <string>
#include <vector>

namespace kvattend::cli {

class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kRight;
  };

  explicit Table(std::vector<Column> columns);

  // As many cells as columns.
  void AddRow(std::vector<std::string> cells);
  void Print(std::ostream& out) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace kvattend::cli

#endif  // KVATTEND_CLIENT_CLI_TABLE_H_
