#include "server/observability/metrics_exposer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/observability/process_metrics.h"

namespace kvattend {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// The answer to a GET of a loopback port, header and all.
std::string HttpGet(int port, const std::string& path) {
  const int socket_fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(socket_fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  const std::string request =
      absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(write(socket_fd, request.data(), request.size()), static_cast<ssize_t>(request.size()));
  std::string response;
  char buffer[4096];
  for (ssize_t size = 0; (size = read(socket_fd, buffer, sizeof(buffer))) > 0;) {
    response.append(buffer, size);
  }
  close(socket_fd);
  return response;
}

TEST(MetricsExposerTest, ServesWhatItCollects) {
  const auto exposer = MetricsExposer::Start("127.0.0.1:0", {std::make_shared<ProcessMetrics>()});
  ASSERT_TRUE(exposer.ok()) << exposer.status();
  EXPECT_GT((*exposer)->port(), 0);
  const std::string response = HttpGet((*exposer)->port(), "/metrics");
  EXPECT_THAT(response, StartsWith("HTTP/1.1 200 OK"));
  EXPECT_THAT(response, HasSubstr("\nprocess_resident_memory_bytes "));
  EXPECT_THAT(HttpGet((*exposer)->port(), "/other"), StartsWith("HTTP/1.1 404"));
}

TEST(MetricsExposerTest, SaysThatAPortIsInUse) {
  const auto first = MetricsExposer::Start("127.0.0.1:0", {});
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = MetricsExposer::Start(absl::StrCat("127.0.0.1:", (*first)->port()), {});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("cannot listen on 127.0.0.1:"));
}

}  // namespace
}  // namespace kvattend
