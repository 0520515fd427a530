#include "server/rpc/tensor_request.h"

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/half.h"
#include "kvattend/v1/attention_service.pb.h"
#include "server/rpc/tensor_bytes.h"

namespace kvattend {
namespace {

constexpr int kNumElements = 301;

v1::AppendRequest MakeRequest() {
  v1::AppendRequest request;
  request.set_dtype(v1::DATA_TYPE_FLOAT32);
  request.add_items()->set_session("sessions/a");
  request.add_items()->add_layers(7);
  for (int i = 0; i < kNumElements; ++i) {
    const auto element = static_cast<float>(i);
    request.mutable_keys()->append(reinterpret_cast<const char*>(&element), sizeof(element));
    const float negative = -element;
    request.mutable_values()->append(reinterpret_cast<const char*>(&negative), sizeof(negative));
  }
  return request;
}

// Cuts bytes at random places; some slices are empty.
std::vector<grpc::Slice> Cut(const std::string& bytes, int num_cuts, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<size_t> cuts = {0, bytes.size()};
  for (int i = 0; i < num_cuts; ++i) cuts.push_back(random() % (bytes.size() + 1));
  std::sort(cuts.begin(), cuts.end());
  std::vector<grpc::Slice> slices;
  for (size_t i = 1; i < cuts.size(); ++i) {
    slices.emplace_back(bytes.substr(cuts[i - 1], cuts[i] - cuts[i - 1]));
  }
  return slices;
}

struct Parsed {
  bool ok = false;
  v1::AppendRequest message;
  TensorBytes keys;
  TensorBytes values;
};

Parsed Parse(const std::vector<grpc::Slice>& slices) {
  Parsed parsed;
  parsed.ok = ParseTensorRequest(slices,
                                 {{v1::AppendRequest::kKeysFieldNumber, &parsed.keys},
                                  {v1::AppendRequest::kValuesFieldNumber, &parsed.values}},
                                 &parsed.message);
  return parsed;
}

TEST(TensorRequestTest, AnyCutsGiveTheSame) {
  v1::AppendRequest request = MakeRequest();
  const std::string wire = request.SerializeAsString();
  request.clear_keys();
  request.clear_values();
  for (uint32_t seed = 0; seed < 50; ++seed) {
    const std::vector<grpc::Slice> slices = Cut(wire, static_cast<int>(seed) * 5, seed);
    const Parsed parsed = Parse(slices);
    ASSERT_TRUE(parsed.ok);
    EXPECT_EQ(parsed.message.SerializeAsString(), request.SerializeAsString());
    ASSERT_EQ(parsed.keys.size(), kNumElements * sizeof(float));
    ASSERT_EQ(parsed.values.size(), kNumElements * sizeof(float));

    // In two parts, as two items would.
    std::vector<uint16_t> halves(kNumElements, 0xffff);
    TensorReader keys(parsed.keys, v1::DATA_TYPE_FLOAT32);
    EXPECT_FALSE(keys.ReadHalves(100, halves.data()).has_value());
    EXPECT_FALSE(keys.ReadHalves(kNumElements - 100, halves.data() + 100).has_value());
    std::vector<float> floats(kNumElements, -1.0f);
    TensorReader values(parsed.values, v1::DATA_TYPE_FLOAT32);
    EXPECT_FALSE(values.ReadFloats(kNumElements, floats.data()).has_value());
    for (int i = 0; i < kNumElements; ++i) {
      ASSERT_EQ(HalfToFloat(halves[i]), static_cast<float>(i));
      ASSERT_EQ(floats[i], static_cast<float>(-i));
    }
  }
}

TEST(TensorRequestTest, TellsTheFirstElementThatIsNotFinite) {
  std::string bytes;
  for (int i = 0; i < kNumElements; ++i) {
    const uint16_t half = i == 200 || i == 250 ? 0x7c00 : 0x3c00;
    bytes.append(reinterpret_cast<const char*>(&half), sizeof(half));
  }
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const std::vector<grpc::Slice> slices = Cut(bytes, 40, seed);
    TensorBytes tensor;
    for (const grpc::Slice& slice : slices) {
      tensor.Add({reinterpret_cast<const char*>(slice.begin()), slice.size()});
    }
    std::vector<float> floats(kNumElements);
    TensorReader reader(tensor, v1::DATA_TYPE_FLOAT16);
    EXPECT_FALSE(reader.ReadFloats(150, floats.data()).has_value());
    EXPECT_EQ(reader.ReadFloats(100, floats.data()), 50);
    // And goes on behind them.
    EXPECT_EQ(reader.ReadFloats(kNumElements - 250, floats.data()), 0);
    EXPECT_EQ(floats[0], floats[0]);
  }
}

TEST(TensorRequestTest, OfFieldsThatComeTwiceTheLastCounts) {
  v1::AppendRequest first;
  first.set_keys("old keys");
  first.set_values("values");
  v1::AppendRequest second;
  second.set_keys("new");
  const std::vector<grpc::Slice> slices = {
      grpc::Slice(first.SerializeAsString() + second.SerializeAsString())};
  const Parsed parsed = Parse(slices);
  ASSERT_TRUE(parsed.ok);
  EXPECT_EQ(parsed.keys.size(), 3u);
  EXPECT_EQ(parsed.values.size(), 6u);
}

TEST(TensorRequestTest, AnEmptyRequestIsOne) {
  EXPECT_TRUE(Parse({}).ok);
  EXPECT_TRUE(Parse({grpc::Slice("")}).ok);
}

TEST(TensorRequestTest, RefusesWhatIsNoMessage) {
  const std::string wire = MakeRequest().SerializeAsString();
  for (const std::string& bytes :
       {std::string("\x1a\xff\xff\xff\xff\x0f"),  // a length of 4 GiB
        std::string("\x1a\x05"
                    "1234"),  // one byte short
        std::string("\x1a"), std::string("\x00", 1), std::string("\xff\xff\xff\xff\xff\xff"),
        std::string("\x12\x04\x0a\x02\xc3\x28"),  // a session that is not UTF-8
        wire.substr(0, wire.size() - 1), wire + "\x0c"}) {
    EXPECT_FALSE(Parse(Cut(bytes, 3, 1)).ok);
  }
}

}  // namespace
}  // namespace kvattend
