// How a server starts, tells its health and stops, over real sockets.
#include <chrono>
#include <fstream>
#include <future>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/support/byte_buffer.h"
#include "gtest/gtest.h"
#include "server/server.h"
#include "tests/server/rpc/server_fixture.h"

namespace kvattend {
namespace {

// The messages of grpc.health.v1: the request's field 1 is the service's name, the answer's the
// status.
const std::string kServing("\x08\x01");
const std::string kNotServing("\x08\x02");

std::string HealthRequest(const std::string& service) {
  if (service.empty()) return "";
  return std::string("\x0a") + static_cast<char>(service.size()) + service;
}

TEST_F(ServerTest, HealthIsToldOverallAndByService) {
  for (const char* service : {"", "kvattend.v1.SessionService", "kvattend.v1.AttentionService",
                              "kvattend.v1.CodecService", "kvattend.v1.ServerService"}) {
    std::string response;
    ASSERT_TRUE(CallRaw("/grpc.health.v1.Health/Check", HealthRequest(service), &response).ok());
    EXPECT_EQ(response, kServing);
  }
  std::string response;
  EXPECT_EQ(CallRaw("/grpc.health.v1.Health/Check", HealthRequest("other"), &response).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(ServerTest, AWatchSeesTheShutdown) {
  grpc::GenericStub stub(channel_);
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  void* tag = nullptr;
  bool ok = false;
  auto stream = stub.PrepareCall(&context, "/grpc.health.v1.Health/Watch", &queue);
  stream->StartCall(&stream);
  ASSERT_TRUE(queue.Next(&tag, &ok) && ok);
  const grpc::ByteBuffer request = [] {
    const grpc::Slice empty("");
    return grpc::ByteBuffer(&empty, 1);
  }();
  stream->WriteLast(request, {}, &stream);
  ASSERT_TRUE(queue.Next(&tag, &ok) && ok);
  const auto read = [&] {
    grpc::ByteBuffer message;
    stream->Read(&message, &stream);
    EXPECT_TRUE(queue.Next(&tag, &ok) && ok);
    grpc::Slice slice;
    EXPECT_TRUE(message.DumpToSingleSlice(&slice).ok());
    return std::string(reinterpret_cast<const char*>(slice.begin()), slice.size());
  };
  EXPECT_EQ(read(), kServing);
  std::thread shutdown([this] { server_->Shutdown(); });
  EXPECT_EQ(read(), kNotServing);
  // Then nothing keeps the server.
  context.TryCancel();
  shutdown.join();
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) {
  }
}

// grpc.reflection.v1alpha: field 7 of the request asks for the services' names.
TEST_F(ServerTest, ReflectionListsTheServices) {
  grpc::GenericStub stub(channel_);
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  void* tag = nullptr;
  bool ok = false;
  auto stream = stub.PrepareCall(
      &context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
  stream->StartCall(&stream);
  ASSERT_TRUE(queue.Next(&tag, &ok) && ok);
  const grpc::Slice list_services("\x3a\x01*");
  stream->Write(grpc::ByteBuffer(&list_services, 1), &stream);
  ASSERT_TRUE(queue.Next(&tag, &ok) && ok);
  grpc::ByteBuffer message;
  stream->Read(&message, &stream);
  ASSERT_TRUE(queue.Next(&tag, &ok) && ok);
  grpc::Slice slice;
  ASSERT_TRUE(message.DumpToSingleSlice(&slice).ok());
  const std::string names(reinterpret_cast<const char*>(slice.begin()), slice.size());
  for (const char* name :
       {"kvattend.v1.SessionService", "kvattend.v1.AttentionService", "kvattend.v1.CodecService",
        "kvattend.v1.ServerService", "grpc.health.v1.Health"}) {
    EXPECT_NE(names.find(name), std::string::npos) << name;
  }
  context.TryCancel();
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) {
  }
}

// Callers that vanish in every phase of their calls, while others shut the server down.
TEST_F(ServerTest, OutlivesCallersThatVanish) {
  v1::CreateSessionResponse created;
  ASSERT_TRUE(Create("a", "balanced", &created).ok());
  Append(MakeAppend("sessions/a", 0, 512));
  const v1::AttendRequest request = MakeAttend("sessions/a");
  constexpr int kCalls = 300;
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 3; ++caller) {
    callers.emplace_back([this, &request, caller] {
      for (int i = 0; i < kCalls; ++i) {
        grpc::ClientContext context;
        context.set_deadline(std::chrono::system_clock::now() + std::chrono::microseconds(20 * i));
        v1::AttendResponse response;
        std::promise<void> done;
        attention_->async()->Attend(&context, &request, &response,
                                    [&done](const grpc::Status&) { done.set_value(); });
        if (caller == 0) context.TryCancel();
        done.get_future().get();
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(Attend(request).results(0).position(), 512);
  server_->Shutdown();
}

TEST_F(ServerTest, RefusesWorkWhileItDrains) {
  v1::CreateSessionResponse created;
  ASSERT_TRUE(Create("a", "balanced", &created).ok());
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([this] {
      for (;;) {
        grpc::ClientContext context;
        v1::AppendResponse response;
        const grpc::Status status =
            attention_->Append(&context, MakeAppend("sessions/a", 0, 16), &response);
        if (status.ok()) continue;
        // Refused by the drained engine, or the connection is going.
        if (status.error_details().empty()) return;
        EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
        EXPECT_EQ(ReasonOf(status), "DRAINING");
        EXPECT_TRUE(FindDetail<google::rpc::RetryInfo>(DetailsOf(status)).has_value());
        return;
      }
    });
  }
  server_->Shutdown();
  for (std::thread& caller : callers) caller.join();
}

TEST(ServerCreateTest, SaysWhyItCannotStart) {
  Logger logger(LogFormat::kText, spdlog::level::off);
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.metrics_listen = "127.0.0.1:0";
  options.kv_memory = {.bytes = int64_t{4} << 20};
  auto first = Server::Create(options, &logger);
  ASSERT_TRUE(first.ok()) << first.status();

  ServerOptions same_port = options;
  same_port.listen = absl::StrCat("127.0.0.1:", (*first)->grpc_port());
  EXPECT_EQ(Server::Create(same_port, &logger).status().code(), absl::StatusCode::kUnavailable);
  ServerOptions same_metrics = options;
  same_metrics.metrics_listen = absl::StrCat("127.0.0.1:", (*first)->metrics_port());
  EXPECT_EQ(Server::Create(same_metrics, &logger).status().code(), absl::StatusCode::kUnavailable);
}

TEST(WritePortFileTest, WritesBothPorts) {
  const std::string path = ::testing::TempDir() + "ports";
  ASSERT_TRUE(WritePortFile(path, 1, 2).ok());
  std::ifstream file(path);
  const std::string content((std::istreambuf_iterator<char>(file)),
                            std::istreambuf_iterator<char>());
  EXPECT_EQ(content, "grpc=1\nmetrics=2\n");
  EXPECT_FALSE(WritePortFile("/nonexistent/ports", 1, 2).ok());
}

}  // namespace
}  // namespace kvattend
