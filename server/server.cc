#include "server/server.h"

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "kernels/base/status_macros.h"
#include "server/backend_choice.h"
#include "server/base/clock.h"
#include "server/engine/engine.h"
#include "server/observability/call_monitor.h"
#include "server/observability/device_metrics.h"
#include "server/observability/metrics_exposer.h"
#include "server/observability/process_metrics.h"
#include "server/observability/prometheus_metrics.h"
#include "server/rpc/attention_service.h"
#include "server/rpc/codec_service.h"
#include "server/rpc/server_service.h"
#include "server/rpc/session_service.h"

namespace kvattend {
namespace {

// What the health service answers for; "" is the whole server.
constexpr const char* kHealthNames[] = {"", "kvattend.v1.SessionService",
                                        "kvattend.v1.AttentionService", "kvattend.v1.CodecService",
                                        "kvattend.v1.ServerService"};

Limits MakeLimits(const ServerOptions& options) {
  Limits limits;
  limits.max_message_bytes = options.max_message_bytes;
  limits.max_sessions = options.max_sessions;
  return limits;
}

void SetConnectionOptions(const ServerOptions& options, grpc::ServerBuilder* builder) {
  // gRPC refuses without details what is longer than this; the handlers refuse, with details, what
  // is over the limit by less.
  builder->SetMaxReceiveMessageSize(static_cast<int>(
      std::min<int64_t>(options.max_message_bytes / 4 * 5, std::numeric_limits<int>::max())));
  builder->SetMaxSendMessageSize(static_cast<int>(options.max_message_bytes));
  // Two servers on one port would share its connections, and sessions would seem to come and go.
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // Calls of one connection at a time; the engine's queue is what really bounds the work.
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 1024);
  // Twice gRPC's default: room for traces and tokens of proxies.
  builder->AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, 16 * 1024);
  // Finds dead peers within minutes, and lets idle clients ping every 10 s.
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 120 * 1000);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20 * 1000);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10 * 1000);
}

}  // namespace

class Server::Impl {
 public:
  Impl(const ServerOptions& options, Logger* logger, std::unique_ptr<Backend> backend)
      : logger_(*logger),
        backend_(std::move(backend)),
        metrics_(ServerVersion(), ServerCommit(), backend_->device().kind),
        engine_({.max_queue_depth = options.max_queue_depth, .max_sessions = options.max_sessions},
                backend_.get(), &metrics_, &clock_),
        monitor_(&metrics_, logger),
        environment_{&engine_, MakeLimits(options), &monitor_, &clock_},
        sessions_(&environment_),
        attention_(&environment_),
        codec_(&environment_),
        server_info_(&environment_, {.version = ServerVersion(),
                                     .commit = ServerCommit(),
                                     .missing_capabilities = MissingCapabilities()}) {}

  absl::Status Start(const ServerOptions& options) {
    KVATTEND_ASSIGN_OR_RETURN(
        exposer_, MetricsExposer::Start(options.metrics_listen,
                                        {metrics_.registry(), std::make_shared<ProcessMetrics>(),
                                         std::make_shared<DeviceMetrics>(backend_.get())}));
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::ServerBuilder builder;
    SetConnectionOptions(options, &builder);
    builder.AddListeningPort(options.listen, grpc::InsecureServerCredentials(), &grpc_port_);
    for (grpc::Service* service :
         std::initializer_list<grpc::Service*>{&sessions_, &attention_, &codec_, &server_info_}) {
      builder.RegisterService(service);
    }
    grpc_server_ = builder.BuildAndStart();
    if (grpc_server_ == nullptr || grpc_port_ == 0) {
      return absl::UnavailableError(
          absl::StrCat("cannot listen on ", options.listen,
                       ": is the port in use, or the address not this machine's?"));
    }
    SetServing(true);
    logger_.Info("ready", {{"version", ServerVersion()},
                           {"commit", ServerCommit()},
                           {"device", backend_->device().kind},
                           {"device_name", backend_->device().name},
                           {"kv_memory_bytes", static_cast<int64_t>(backend_->arena_bytes())},
                           {"grpc_port", grpc_port_},
                           {"metrics_port", exposer_->port()}});
    return absl::OkStatus();
  }

  void Shutdown(absl::Duration grace) {
    if (grpc_server_ == nullptr) return;
    logger_.Info("draining");
    SetServing(false);
    engine_.Drain();
    grpc_server_->Shutdown(std::chrono::system_clock::now() + absl::ToChronoNanoseconds(grace));
    grpc_server_->Wait();
    grpc_server_ = nullptr;
    logger_.Info("stopped");
  }

  // On the executor's thread, so before Shutdown has drained it.
  void OnDeviceFault(const absl::Status& fault) {
    logger_.Log(spdlog::level::err, "device fault", {{"detail", std::string(fault.message())}});
    SetServing(false);
  }

  int grpc_port() const { return grpc_port_; }
  int metrics_port() const { return exposer_->port(); }

 private:
  void SetServing(bool serving) {
    for (const char* name : kHealthNames) {
      grpc_server_->GetHealthCheckService()->SetServingStatus(name, serving);
    }
    metrics_.SetReady(serving);
  }

  // Each uses those above it.
  Logger& logger_;
  SystemClock clock_;
  const std::unique_ptr<Backend> backend_;
  PrometheusMetrics metrics_;
  Engine engine_;
  CallMonitor monitor_;
  const RpcEnvironment environment_;
  SessionService sessions_;
  AttentionService attention_;
  CodecService codec_;
  ServerService server_info_;
  std::unique_ptr<MetricsExposer> exposer_;
  int grpc_port_ = 0;
  std::unique_ptr<grpc::Server> grpc_server_;
};

absl::StatusOr<std::unique_ptr<Server>> Server::Create(const ServerOptions& options, Logger* logger,
                                                       std::function<void()> on_device_fault) {
  // Filled before anything asks the backend for work.
  const auto server = std::make_shared<Impl*>(nullptr);
  KVATTEND_ASSIGN_OR_RETURN(
      std::unique_ptr<Backend> backend,
      MakeBackend(options, [server, on_device_fault](const absl::Status& fault) {
        (*server)->OnDeviceFault(fault);
        if (on_device_fault) on_device_fault();
      }));
  auto impl = std::make_unique<Impl>(options, logger, std::move(backend));
  *server = impl.get();
  KVATTEND_RETURN_IF_ERROR(impl->Start(options));
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Server::~Server() { Shutdown(); }

int Server::grpc_port() const { return impl_->grpc_port(); }

int Server::metrics_port() const { return impl_->metrics_port(); }

void Server::Shutdown(absl::Duration grace) { impl_->Shutdown(grace); }

const char* ServerVersion() { return KVATTEND_VERSION; }

const char* ServerCommit() { return KVATTEND_COMMIT; }

absl::Status WritePortFile(const std::string& path, int grpc_port, int metrics_port) {
  const std::string temporary = absl::StrCat(path, ".", getpid(), ".tmp");
  std::ofstream file(temporary);
  file << "grpc=" << grpc_port << "\nmetrics=" << metrics_port << "\n";
  file.close();
  if (file.fail() || std::rename(temporary.c_str(), path.c_str()) != 0) {
    std::remove(temporary.c_str());
    return absl::UnavailableError(absl::StrCat("cannot write ", path));
  }
  return absl::OkStatus();
}

}  // namespace kvattend
