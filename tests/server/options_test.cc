#include "server/options.h"

#include <cstdlib>
#include <map>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvattend {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(OptionsTest, DefaultsAreLoopback) {
  const auto options = ParseServerOptions({});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->listen, "127.0.0.1:50051");
  EXPECT_EQ(options->metrics_listen, "127.0.0.1:9464");
  EXPECT_EQ(options->device, DeviceChoice::kAuto);
  EXPECT_EQ(options->kv_memory.bytes, int64_t{1} << 30);
  EXPECT_EQ(options->max_message_bytes, 64 << 20);
}

TEST(OptionsTest, ReadsEveryOption) {
  const auto options = ParseServerOptions({{"listen", "[::1]:0"},
                                           {"metrics_listen", "0.0.0.0:9000"},
                                           {"insecure", "false"},
                                           {"device", "cpu"},
                                           {"kv_memory", "25%"},
                                           {"threads", "3"},
                                           {"max_message_mb", "16"},
                                           {"max_queue_depth", "7"},
                                           {"max_sessions", "9"},
                                           {"log_level", "debug"},
                                           {"log_format", "json"},
                                           {"port_file", "/tmp/ports"}});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->listen, "[::1]:0");
  EXPECT_EQ(options->metrics_listen, "0.0.0.0:9000");
  EXPECT_EQ(options->device, DeviceChoice::kCpu);
  EXPECT_EQ(options->kv_memory.share, 0.25);
  EXPECT_EQ(options->num_threads, 3);
  EXPECT_EQ(options->max_message_bytes, 16 << 20);
  EXPECT_EQ(options->max_queue_depth, 7);
  EXPECT_EQ(options->max_sessions, 9);
  EXPECT_EQ(options->log_level, spdlog::level::debug);
  EXPECT_EQ(options->log_format, LogFormat::kJson);
  EXPECT_EQ(options->port_file, "/tmp/ports");
}

TEST(OptionsTest, BadValuesNameTheOption) {
  const std::multimap<std::string, std::string> bad = {
      {"listen", "nowhere"},      {"listen", "127.0.0.1"},    {"listen", "127.0.0.1:65536"},
      {"listen", "example:1"},    {"listen", "127.0.0.1:-1"}, {"listen", "::1:50051"},
      {"metrics_listen", ""},     {"insecure", "maybe"},      {"device", "tpu"},
      {"kv_memory", ""},          {"kv_memory", "1GiBB"},     {"kv_memory", "-1G"},
      {"kv_memory", "0"},         {"kv_memory", "1M"},        {"kv_memory", "0%"},
      {"kv_memory", "101%"},      {"kv_memory", "nan%"},      {"kv_memory", "99999999999T"},
      {"threads", "-1"},          {"threads", "two"},         {"max_message_mb", "0"},
      {"max_message_mb", "2048"}, {"max_queue_depth", "0"},   {"max_sessions", "0"},
      {"log_level", "loud"},      {"log_format", "xml"},      {"unknown", "1"}};
  for (const auto& [name, value] : bad) {
    const auto options = ParseServerOptions({{name, value}});
    ASSERT_FALSE(options.ok()) << name << "=" << value;
    EXPECT_EQ(options.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(options.status().message()), StartsWith("--" + name + ": "));
  }
}

TEST(OptionsTest, APublicBindNeedsInsecure) {
  for (const char* listen : {"0.0.0.0:50051", "[::]:50051", "10.1.2.3:1"}) {
    const auto options = ParseServerOptions({{"listen", listen}});
    ASSERT_FALSE(options.ok());
    EXPECT_THAT(std::string(options.status().message()), HasSubstr("--insecure"));
    EXPECT_FALSE(ParseServerOptions({{"listen", listen}, {"insecure", "false"}}).ok());
    EXPECT_TRUE(ParseServerOptions({{"listen", listen}, {"insecure", "true"}}).ok());
  }
  for (const char* listen : {"127.0.0.1:0", "127.9.9.9:1", "[::1]:0", "localhost:50051"}) {
    EXPECT_TRUE(ParseServerOptions({{"listen", listen}}).ok()) << listen;
  }
}

TEST(OptionsTest, MemorySizes) {
  EXPECT_EQ(ParseMemorySize("1073741824")->bytes, 1073741824);
  EXPECT_EQ(ParseMemorySize("512M")->bytes, 512000000);
  EXPECT_EQ(ParseMemorySize("512MB")->bytes, 512000000);
  EXPECT_EQ(ParseMemorySize("512MiB")->bytes, 512 << 20);
  EXPECT_EQ(ParseMemorySize("4096KiB")->bytes, 4 << 20);
  EXPECT_EQ(ParseMemorySize("3Gi")->bytes, int64_t{3} << 30);
  EXPECT_EQ(ParseMemorySize("1T")->bytes, 1000000000000);
  EXPECT_EQ(ParseMemorySize("12.5%")->share, 0.125);
  EXPECT_EQ(ParseMemorySize("100%")->share, 1.0);
}

TEST(OptionsTest, TheEnvironmentNamesOptions) {
  EXPECT_EQ(EnvironmentName("kv_memory"), "KVATTEND_KV_MEMORY");
  const OptionValues values = OptionsFromEnvironment([](const char* name) -> const char* {
    if (std::string(name) == "KVATTEND_KV_MEMORY") return "2GiB";
    if (std::string(name) == "KVATTEND_PORT_FILE") return "";
    return nullptr;
  });
  EXPECT_EQ(values, (OptionValues{{"kv_memory", "2GiB"}, {"port_file", ""}}));
}

TEST(OptionsTest, EveryNameIsKnown) {
  for (const std::string& name : ServerOptionNames()) {
    const auto options = ParseServerOptions({{name, "\x01"}});
    if (!options.ok()) {
      EXPECT_THAT(std::string(options.status().message()), ::testing::Not(HasSubstr("no such")));
    }
  }
}

}  // namespace
}  // namespace kvattend
