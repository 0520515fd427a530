// Bytes of blocks, and what comes back from them, against the scalar reference.
#include <algorithm>
#include <cmath>

#include "kernels/base/half.h"
#include "kernels/codec/block_layout.h"
#include "kernels/codec/reference_codec.h"
#include "tests/kernels/conformance/conformance.h"
#include "tests/support/random_tensors.h"

namespace kvattend::testing {
namespace {

constexpr int kKvHeads = 2;

class CodecConformanceTest : public BackendConformanceTest {
 protected:
  // The canonical bytes of blocks, read through the backend.
  std::vector<uint8_t> Read(const LayerShape& shape, const std::vector<uint64_t>& blocks) {
    const size_t size =
        blocks.size() * shape.num_kv_heads * MakeBlockLayout(shape.codec).head_bytes;
    const Staged<uint8_t> canonical(backend(), size, uint8_t{0xa5});
    EXPECT_TRUE(backend().ReadBlocks(shape, blocks, canonical.data()).ok());
    return canonical.ToVector();
  }
};

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(CodecConformanceTest);
INSTANTIATE_TEST_SUITE_P(Backends, CodecConformanceTest, ::testing::ValuesIn(ConformanceBackends()),
                         [](const auto& info) { return info.param.name; });

std::vector<CodecSpec> ManyCodecs() {
  std::vector<CodecSpec> codecs;
  for (const int head_dim : {64, 128, 256}) {
    for (const CodecSpec& codec : PresetCodecs(head_dim)) codecs.push_back(codec);
  }
  const int kBits[] = {16, 8, 4, 2};
  RandomStream random(21);
  for (int i = 0; i < 24; ++i) {
    CodecSpec codec;
    codec.head_dim = 64 << random.Integer(0, 2);
    codec.keys = {static_cast<int>(random.Integer(1, codec.head_dim)), kBits[i % 4]};
    codec.values = {static_cast<int>(random.Integer(1, codec.head_dim)), kBits[i / 4 % 4]};
    codecs.push_back(codec);
  }
  return codecs;
}

// What a compress task of tensors [64, kKvHeads, head_dim] must give.
std::vector<uint8_t> ReferenceBlock(const LayerShape& shape, const std::vector<uint16_t>& keys,
                                    const std::vector<uint16_t>& values) {
  const BlockLayout layout = MakeBlockLayout(shape.codec);
  const int head_dim = shape.codec.head_dim;
  std::vector<uint8_t> block(shape.num_kv_heads * layout.head_bytes);
  std::vector<uint16_t> rows(kBlockTokens * head_dim);
  for (int head = 0; head < shape.num_kv_heads; ++head) {
    for (const VectorRole role : {VectorRole::kKey, VectorRole::kValue}) {
      const bool is_keys = role == VectorRole::kKey;
      for (int t = 0; t < kBlockTokens; ++t) {
        std::copy_n((is_keys ? keys : values).begin() + (t * shape.num_kv_heads + head) * head_dim,
                    head_dim, rows.begin() + t * head_dim);
      }
      EncodeReference(
          shape.codec, role, rows.data(),
          block.data() + head * layout.head_bytes + (is_keys ? 0 : layout.keys.size_bytes));
    }
  }
  return block;
}

TEST_P(CodecConformanceTest, AppendGivesTheReferenceBytes) {
  for (const CodecSpec& codec : ManyCodecs()) {
    const LayerShape shape{kKvHeads, codec};
    const size_t size = size_t{kBlockTokens} * kKvHeads * codec.head_dim;
    const std::vector<uint16_t> tensors[] = {
        GaussianTensor(31, size),    HeavyTailedTensor(32, size),
        SubnormalTensor(33, size),   RandomPatternTensor(34, size),
        TiedTensor(35, size),        ConstantTensor(size, 0.0f),
        ConstantTensor(size, -1.5f), OutlierChannelTensor(36, size, codec.head_dim, 6, 8.0)};
    for (size_t i = 0; i < std::size(tensors); ++i) {
      SCOPED_TRACE(Describe(codec) + ", tensor " + std::to_string(i));
      const std::vector<uint16_t>& values = tensors[(i + 1) % std::size(tensors)];
      const Staged<uint16_t> staged_keys(backend(), tensors[i]);
      const Staged<uint16_t> staged_values(backend(), values);
      CompressTask task{shape, AllocateBlock(shape)};
      task.keys = staged_keys.data();
      task.values = staged_values.data();
      ASSERT_TRUE(backend().Append({task}, {}).ok());
      ASSERT_EQ(Read(shape, {task.block}), ReferenceBlock(shape, tensors[i], values));
    }
  }
}

// A block whose first tokens are in pages, which the same call overwrites.
TEST_P(CodecConformanceTest, AppendTakesTokensFromPages) {
  const LayerShape shape{kKvHeads, CodecFromPreset("fine", 128).value()};
  const size_t row_size = size_t{kKvHeads} * shape.codec.head_dim;
  const std::vector<uint16_t> keys = GaussianTensor(41, kBlockTokens * row_size);
  const std::vector<uint16_t> values = GaussianTensor(42, kBlockTokens * row_size);
  const Staged<uint16_t> staged_keys(backend(), keys);
  const Staged<uint16_t> staged_values(backend(), values);
  const std::vector<uint8_t> expected = ReferenceBlock(shape, keys, values);
  for (const int num_paged : {1, 15, 16, 17, 40, 63, 64}) {
    SCOPED_TRACE(num_paged);
    CompressTask task{shape, AllocateBlock(shape), num_paged};
    std::vector<WritePageTask> writes;
    std::vector<WritePageTask> overwrites;
    std::vector<CopyPageTask> copies;
    for (int first = 0; first < num_paged; first += kPageTokens) {
      const int count = std::min(kPageTokens, num_paged - first);
      const uint64_t page = AllocatePage(shape);
      const uint16_t* const page_keys = staged_keys.data() + first * row_size;
      const uint16_t* const page_values = staged_values.data() + first * row_size;
      // In two pieces, and by way of a copy.
      const int split = (count + 1) / 2;
      writes.push_back({shape, page, 0, split, page_keys, page_values});
      writes.push_back({shape, page, split, count - split, page_keys + split * row_size,
                        page_values + split * row_size});
      task.pages[first / kPageTokens] = AllocatePage(shape);
      copies.push_back({shape, page, task.pages[first / kPageTokens], count});
      overwrites.push_back({shape, task.pages[first / kPageTokens], 0, count, staged_values.data(),
                            staged_keys.data()});
    }
    if (num_paged < kBlockTokens) {
      task.keys = staged_keys.data() + num_paged * row_size;
      task.values = staged_values.data() + num_paged * row_size;
    }
    ASSERT_TRUE(backend().Append({}, writes).ok());
    ASSERT_TRUE(backend().CopyPages(copies).ok());
    ASSERT_TRUE(backend().Append({task}, overwrites).ok());
    ASSERT_EQ(Read(shape, {task.block}), expected);
  }
}

TEST_P(CodecConformanceTest, BlocksComeBackAsTheyWereWritten) {
  for (const CodecSpec& codec : ManyCodecs()) {
    SCOPED_TRACE(Describe(codec));
    const CodecCase& c = GetCodecCase(codec, kKvHeads, 192);
    // In another order, with a neighbour between them that must stay as it is.
    const uint64_t first = AllocateBlock(c.shape);
    const uint64_t second = AllocateBlock(c.shape);
    const uint64_t third = AllocateBlock(c.shape);
    ASSERT_TRUE(backend().WriteBlocks(c.shape, {third, second, first}, c.canonical.data()).ok());
    ASSERT_EQ(Read(c.shape, {third, second, first}), c.canonical);
    ASSERT_TRUE(backend().WriteBlocks(c.shape, {second}, c.canonical.data()).ok());
    const size_t block_bytes = c.canonical.size() / 3;
    std::vector<uint8_t> expected = c.canonical;
    std::copy_n(c.canonical.begin(), block_bytes, expected.begin() + block_bytes);
    ASSERT_EQ(Read(c.shape, {third, second, first}), expected);
  }
}

TEST_P(CodecConformanceTest, EncodeAndDecode) {
  for (const CodecSpec& codec : ManyCodecs()) {
    SCOPED_TRACE(Describe(codec));
    const CodecCase& c = GetCodecCase(codec, kKvHeads, 192);
    const Staged<uint16_t> keys(backend(), c.keys);
    const Staged<uint16_t> values(backend(), c.values);
    const Staged<uint8_t> canonical(backend(), c.canonical.size(), uint8_t{0xa5});
    ASSERT_TRUE(
        backend().Encode(c.shape, c.num_tokens, keys.data(), values.data(), canonical.data()).ok());
    ASSERT_EQ(canonical.ToVector(), c.canonical);
    const Staged<float> decoded_keys(backend(), c.keys.size(), NAN);
    const Staged<float> decoded_values(backend(), c.values.size(), NAN);
    ASSERT_TRUE(backend()
                    .Decode(c.shape, c.num_tokens, canonical.data(), decoded_keys.data(),
                            decoded_values.data())
                    .ok());
    ASSERT_EQ(decoded_keys.ToVector(), c.decoded.keys);
    ASSERT_EQ(decoded_values.ToVector(), c.decoded.values);
  }
}

TEST_P(CodecConformanceTest, Recode) {
  const std::pair<const char*, const char*> kPairs[] = {
      {"fp16", "balanced"}, {"int8", "lean"}, {"fine", "sparse70-int2"}, {"sparse50", "int2"}};
  for (const auto& [from, to] : kPairs) {
    SCOPED_TRACE(std::string(from) + " to " + to);
    const CodecCase& c = GetCodecCase(CodecFromPreset(from, 128).value(), kKvHeads, 64);
    RecodeTask task{c.shape, AllocateBlock(c.shape), CodecFromPreset(to, 128).value()};
    const LayerShape shape{kKvHeads, task.codec};
    task.destination = AllocateBlock(shape);
    ASSERT_TRUE(backend().WriteBlocks(c.shape, {task.source}, c.canonical.data()).ok());
    ASSERT_TRUE(backend().Recode({task}).ok());
    const auto to_half = [](const std::vector<float>& floats) {
      std::vector<uint16_t> halves(floats.size());
      std::transform(floats.begin(), floats.end(), halves.begin(), FloatToHalfSaturating);
      return halves;
    };
    ASSERT_EQ(Read(shape, {task.destination}),
              ReferenceBlock(shape, to_half(c.decoded.keys), to_half(c.decoded.values)));
    ASSERT_EQ(Read(c.shape, {task.source}), c.canonical);
  }
}

TEST_P(CodecConformanceTest, UnitsAreAligned) {
  for (const CodecSpec& codec : ManyCodecs()) {
    const LayerShape shape{3, codec};
    EXPECT_EQ(backend().BlockBytes(shape) % Backend::kUnitAlignment, 0u);
    EXPECT_EQ(backend().PageBytes(shape) % Backend::kUnitAlignment, 0u);
    EXPECT_GE(backend().BlockBytes(shape), 3 * MakeBlockLayout(codec).head_bytes);
  }
}

}  // namespace
}  // namespace kvattend::testing
