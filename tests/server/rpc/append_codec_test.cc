#include "server/rpc/append_codec.h"

#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "google/rpc/error_details.pb.h"
#include "gtest/gtest.h"
#include "kernels/base/half.h"
#include "tests/server/rpc/expect_error.h"
#include "tests/server/rpc/heap_staging.h"

namespace kvattend {
namespace {

constexpr int kMaxInt = std::numeric_limits<int>::max();

std::string Bytes(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

// 0, 1, 2, ... times `step`.
std::vector<float> Ramp(int count, float step) {
  std::vector<float> values(count);
  for (int i = 0; i < count; ++i) values[i] = step * static_cast<float>(i);
  return values;
}

// Two items: "a" with layers 0 and 3 of [2, 1, 4], "b" with layer 1 of [1, 2, 4]; 24 values a role.
v1::AppendRequest GoodAppend() {
  v1::AppendRequest request;
  request.set_dtype(v1::DATA_TYPE_FLOAT32);
  v1::AppendItem* a = request.add_items();
  a->set_session("sessions/a");
  a->set_revision(1);
  a->set_expected_position(64);
  a->add_layers(0);
  a->add_layers(3);
  a->set_num_tokens(2);
  a->set_num_kv_heads(1);
  a->set_head_dim(4);
  v1::AppendItem* b = request.add_items();
  b->set_session("sessions/b");
  b->add_layers(1);
  b->set_num_tokens(1);
  b->set_num_kv_heads(2);
  b->set_head_dim(4);
  request.set_keys(Bytes(Ramp(24, 1.0f)));
  request.set_values(Bytes(Ramp(24, -1.0f)));
  return request;
}

absl::StatusOr<AppendBatch> Parse(const v1::AppendRequest& request,
                                  StagingAllocator allocate = HeapStaging) {
  return ParseAppend(request, {TensorBytes(request.keys()), TensorBytes(request.values())},
                     Limits(), allocate);
}

TEST(ParseAppendTest, CopiesTensorsOfEveryItem) {
  const auto batch = Parse(GoodAppend());
  ASSERT_TRUE(batch.ok()) << batch.status();
  ASSERT_EQ(batch->entries.size(), 2u);
  const AppendEntry& a = batch->entries[0];
  EXPECT_EQ(a.session, "a");
  EXPECT_EQ(a.revision, 1);
  EXPECT_EQ(a.expected_position, 64);
  EXPECT_EQ(a.layers, (std::vector<int>{0, 3}));
  EXPECT_EQ(a.num_tokens, 2);
  EXPECT_EQ(a.num_kv_heads, 1);
  EXPECT_EQ(a.head_dim, 4);
  EXPECT_TRUE(a.input_status.ok());
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(HalfToFloat(a.keys[i]), static_cast<float>(i));
    EXPECT_EQ(HalfToFloat(a.values[i]), static_cast<float>(-i));
  }
  const AppendEntry& b = batch->entries[1];
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(HalfToFloat(b.keys[i]), static_cast<float>(16 + i));
    EXPECT_EQ(HalfToFloat(b.values[i]), static_cast<float>(-16 - i));
  }
  EXPECT_EQ(reinterpret_cast<uintptr_t>(b.keys) % 64, 0u);
}

TEST(ParseAppendTest, TakesEveryDtype) {
  for (const v1::DataType dtype : {v1::DATA_TYPE_FLOAT16, v1::DATA_TYPE_BFLOAT16}) {
    v1::AppendRequest request = GoodAppend();
    request.set_dtype(dtype);
    // 1.0 in either type.
    const uint16_t one = dtype == v1::DATA_TYPE_FLOAT16 ? 0x3c00 : 0x3f80;
    const std::vector<uint16_t> ones(24, one);
    request.set_keys(ones.data(), ones.size() * 2);
    request.set_values(ones.data(), ones.size() * 2);
    const auto batch = Parse(request);
    ASSERT_TRUE(batch.ok()) << batch.status();
    EXPECT_EQ(batch->entries[1].values[7], 0x3c00);
  }
}

struct BadAppend {
  const char* name;
  std::function<void(v1::AppendRequest&)> break_it;
  const char* reason;
  const char* field;
};

TEST(ParseAppendTest, RefusesMalformedCalls) {
  const std::vector<BadAppend> cases = {
      {"no items", [](auto& r) { r.clear_items(); }, "NO_ITEMS", "items"},
      {"too many items",
       [](auto& r) {
         const v1::AppendItem item = r.items(0);
         for (int i = 0; i < 4095; ++i) *r.add_items() = item;
       },
       "TOO_MANY_ITEMS", "items"},
      {"no dtype", [](auto& r) { r.clear_dtype(); }, "UNSUPPORTED_DTYPE", "dtype"},
      {"unknown dtype", [](auto& r) { r.set_dtype(static_cast<v1::DataType>(77)); },
       "UNSUPPORTED_DTYPE", "dtype"},
      {"bad name", [](auto& r) { r.mutable_items(1)->set_session("b"); }, "INVALID_SESSION_NAME",
       "items[1].session"},
      {"negative position", [](auto& r) { r.mutable_items(0)->set_expected_position(-64); },
       "VALUE_OUT_OF_RANGE", "items[0].expected_position"},
      {"position that overflows",
       [](auto& r) {
         r.mutable_items(0)->set_expected_position(std::numeric_limits<int64_t>::max());
       },
       "VALUE_OUT_OF_RANGE", "items[0].expected_position"},
      {"no layers", [](auto& r) { r.mutable_items(0)->clear_layers(); }, "VALUE_OUT_OF_RANGE",
       "items[0].layers"},
      {"too many layers",
       [](auto& r) {
         for (int i = 0; i < 1024; ++i) r.mutable_items(0)->add_layers(i + 4);
       },
       "VALUE_OUT_OF_RANGE", "items[0].layers"},
      {"no tokens", [](auto& r) { r.mutable_items(1)->set_num_tokens(0); }, "VALUE_OUT_OF_RANGE",
       "items[1].num_tokens"},
      {"negative tokens", [](auto& r) { r.mutable_items(1)->set_num_tokens(-1); },
       "VALUE_OUT_OF_RANGE", "items[1].num_tokens"},
      {"no heads", [](auto& r) { r.mutable_items(1)->set_num_kv_heads(0); }, "VALUE_OUT_OF_RANGE",
       "items[1].num_kv_heads"},
      {"no head_dim", [](auto& r) { r.mutable_items(1)->set_head_dim(0); }, "VALUE_OUT_OF_RANGE",
       "items[1].head_dim"},
      {"layer twice", [](auto& r) { r.mutable_items(0)->set_layers(1, 0); }, "DUPLICATE_LAYER",
       "items[0].layers"},
      {"layer twice over items",
       [](auto& r) {
         r.mutable_items(1)->set_session("sessions/a");
         r.mutable_items(1)->set_layers(0, 3);
       },
       "DUPLICATE_LAYER", "items[1].layers"},
      {"short keys", [](auto& r) { r.mutable_keys()->pop_back(); }, "BYTE_COUNT_MISMATCH", "keys"},
      {"long keys", [](auto& r) { r.mutable_keys()->push_back('x'); }, "BYTE_COUNT_MISMATCH",
       "keys"},
      {"no values", [](auto& r) { r.clear_values(); }, "BYTE_COUNT_MISMATCH", "values"},
      {"wrong dtype for the bytes", [](auto& r) { r.set_dtype(v1::DATA_TYPE_FLOAT16); },
       "BYTE_COUNT_MISMATCH", "keys"},
      {"a shape that overflows",
       [](auto& r) {
         r.mutable_items(0)->set_num_tokens(kMaxInt);
         r.mutable_items(0)->set_num_kv_heads(kMaxInt);
         r.mutable_items(0)->set_head_dim(kMaxInt);
       },
       "BYTE_COUNT_MISMATCH", "keys"},
      {"a shape whose bytes wrap to 0",
       [](auto& r) {
         r.mutable_items()->DeleteSubrange(1, 1);
         r.mutable_items(0)->set_num_tokens(1 << 30);
         r.mutable_items(0)->set_num_kv_heads(1 << 30);
         r.mutable_items(0)->set_head_dim(4);
         r.clear_keys();
         r.clear_values();
       },
       "BYTE_COUNT_MISMATCH", "keys"},
  };
  for (const BadAppend& bad : cases) {
    SCOPED_TRACE(bad.name);
    v1::AppendRequest request = GoodAppend();
    bad.break_it(request);
    ExpectInvalid(Parse(request).status(), bad.reason, bad.field);
  }
}

TEST(ParseAppendTest, ValuesThatAreNotFiniteFailTheirItemAlone) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity(), 65520.0f, -1e30f}) {
    v1::AppendRequest request = GoodAppend();
    // Item a, layer 3, token 1, head 0, channel 2.
    std::memcpy(request.mutable_values()->data() + 14 * sizeof(float), &bad, sizeof(bad));
    const auto batch = Parse(request);
    ASSERT_TRUE(batch.ok()) << batch.status();
    EXPECT_TRUE(batch->entries[1].input_status.ok());
    const absl::Status& status = batch->entries[0].input_status;
    ExpectInvalid(status, "NON_FINITE_INPUT", "values");
    const std::map<std::string, std::string> expected = {
        {"role", "values"}, {"layer", "3"}, {"token", "1"}, {"head", "0"}, {"channel", "2"}};
    EXPECT_EQ(MetadataOf(status), expected);
  }
}

TEST(ParseAppendTest, PassesOnThatStagingIsOut) {
  const auto batch = Parse(GoodAppend(), [](size_t) -> absl::StatusOr<StagingBuffer> {
    return absl::ResourceExhaustedError("none left");
  });
  EXPECT_EQ(batch.status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(AppendToProtoTest, WritesResultsAndErrors) {
  std::vector<AppendResult> results(2);
  results[0] = {.replayed = true, .position = 65, .revision = 2};
  results[1].status =
      Error(absl::StatusCode::kAborted, "POSITION_CONFLICT", "no").With("revision", 9);
  results[1].position = 7;
  const v1::AppendResponse response = ToProto(results);
  ASSERT_EQ(response.results_size(), 2);
  EXPECT_EQ(response.results(0).status().code(), 0);
  EXPECT_TRUE(response.results(0).replayed());
  EXPECT_EQ(response.results(0).position(), 65);
  EXPECT_EQ(response.results(0).revision(), 2);
  EXPECT_EQ(response.results(1).status().code(), 10);
  EXPECT_EQ(response.results(1).position(), 0);
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(response.results(1).status().details(0).UnpackTo(&info));
  EXPECT_EQ(info.reason(), "POSITION_CONFLICT");
  EXPECT_EQ(info.metadata().at("revision"), "9");
}

}  // namespace
}  // namespace kvattend
