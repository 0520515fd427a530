#include "client/cli/table.h"

#include <gtest/gtest.h>

#include <sstream>

namespace kvattend::cli {
namespace {

TEST(TableTest, AlignsColumns) {
  Table table({{"name", Table::Align::kLeft}, {"bytes"}, {"", Table::Align::kLeft}});
  table.AddRow({"a", "1", "ok"});
  table.AddRow({"longer", "123,456", ""});
  std::ostringstream out;
  table.Print(out);
  EXPECT_EQ(out.str(),
            "name      bytes\n"
            "------  -------  --\n"
            "a             1  ok\n"
            "longer  123,456\n");
}

}  // namespace
}  // namespace kvattend::cli
