// One line of progress on a terminal, rewritten as work goes on.
#ifndef KVATTEND_CLIENT_CLI_PROGRESS_H_
#define KVATTEND_CLIENT_CLI_PROGRESS_H_

#include "absl/strings/string_view.h"
#include "client/cli/command.h"

namespace kvattend::cli {

// Writes nothing where standard error is not a terminal. Leaves the line empty at the end.
class Progress {
 public:
  explicit Progress(Io& io) : io_(io) {}
  ~Progress() { Show(""); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void Show(absl::string_view text) {
    // Carriage return, then erase to the end of the line.
    if (io_.err_is_terminal) io_.err << "\r\033[K" << text << std::flush;
  }

 private:
  Io& io_;
};

}  // namespace kvattend::cli

#endif  // KVATTEND_CLIENT_CLI_PROGRESS_H_
