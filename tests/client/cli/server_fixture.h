// A server of this project in the test's process, and the command line against it.
#ifndef KVATTEND_TESTS_CLIENT_CLI_SERVER_FIXTURE_H_
#define KVATTEND_TESTS_CLIENT_CLI_SERVER_FIXTURE_H_

#include <gtest/gtest.h>

#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/cli.h"
#include "client/cpp/client.h"
#include "server/observability/logger.h"
#include "server/server.h"

namespace kvattend::cli {

struct CliOutcome {
  ExitCode code = ExitCode::kOk;
  std::string out;
  std::string err;
};

inline CliOutcome RunCommandLine(const std::vector<std::string>& arguments) {
  std::ostringstream out, err;
  Io io = {out, err};
  const ExitCode code = RunCli(arguments, io);
  return {code, out.str(), err.str()};
}

// The tests of a suite share a server with an arena of 64 MiB, for stopping one takes its metrics
// port two seconds; sessions go after each test.
class ServerFixture : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { shared_server_ = MakeServer({}); }
  static void TearDownTestSuite() { shared_server_.reset(); }

  void TearDown() override {
    if (own_server_ != nullptr) return;
    const auto client = Connect();
    const auto sessions = client->ListSessions();
    ASSERT_TRUE(sessions.ok()) << sessions.status();
    for (const v1::Session& session : *sessions) {
      EXPECT_TRUE(client->OpenSession(session.name())->Delete().ok());
    }
  }

  // A server for this test alone. Stops the one before.
  void StartServer(const ServerOptions& options) { own_server_ = MakeServer(options); }
  void StopServer() { own_server_.reset(); }

  Server& server() const { return own_server_ != nullptr ? *own_server_ : *shared_server_; }
  std::string target() const { return absl::StrCat("127.0.0.1:", server().grpc_port()); }

  std::unique_ptr<client::Client> Connect() const {
    auto client = client::Client::Connect(target());
    EXPECT_TRUE(client.ok()) << client.status();
    return client.ok() ? *std::move(client) : nullptr;
  }

  // Runs a subcommand that takes --server.
  CliOutcome Run(std::vector<std::string> arguments) const {
    arguments.push_back(absl::StrCat("--server=", target()));
    return RunCommandLine(arguments);
  }

 private:
  static std::unique_ptr<Server> MakeServer(ServerOptions options) {
    static Logger logger(LogFormat::kText, spdlog::level::off);
    options.listen = "127.0.0.1:0";
    options.metrics_listen = "127.0.0.1:0";
    if (options.kv_memory.bytes == ServerOptions().kv_memory.bytes) {
      options.kv_memory.bytes = int64_t{64} << 20;
    }
    auto server = Server::Create(options, &logger);
    EXPECT_TRUE(server.ok()) << server.status();
    return server.ok() ? *std::move(server) : nullptr;
  }

  static inline std::unique_ptr<Server> shared_server_;
  std::unique_ptr<Server> own_server_;
};

}  // namespace kvattend::cli

#endif  // KVATTEND_TESTS_CLIENT_CLI_SERVER_FIXTURE_H_
