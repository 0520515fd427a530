#include <unistd.h>

#include <iostream>
#include <string>
#include <vector>

#include "client/cli/cli.h"

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  kvattend::cli::Io io = {std::cout, std::cerr, isatty(STDERR_FILENO) == 1};
  return static_cast<int>(kvattend::cli::RunCli(arguments, io));
}
