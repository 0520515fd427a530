#include "tests/kernels/conformance/conformance.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "kernels/base/half.h"
#include "kernels/codec/block_layout.h"
#include "kernels/codec/reference_codec.h"
#include "tests/support/random_tensors.h"

namespace kvattend::testing {
namespace {

// Longer cases repeat their first blocks: the scalar codec is slow, more so under sanitizers. Not a
// divisor of any split, so that blocks at the same place of different splits differ.
constexpr int64_t kPeriodTokens = 17 * kBlockTokens;

constexpr uint64_t kArenaBytes = uint64_t{1} << 30;

// One head's 64 tokens of a tensor [tokens, num_kv_heads, head_dim], as [64, head_dim].
std::vector<uint16_t> GatherHead(const std::vector<uint16_t>& tensor, const LayerShape& shape,
                                 int64_t block, int head) {
  const int head_dim = shape.codec.head_dim;
  std::vector<uint16_t> rows(kBlockTokens * head_dim);
  for (int t = 0; t < kBlockTokens; ++t) {
    const auto from =
        tensor.begin() + ((block * kBlockTokens + t) * shape.num_kv_heads + head) * head_dim;
    std::copy(from, from + head_dim, rows.begin() + t * head_dim);
  }
  return rows;
}

void EncodeAndDecode(CodecCase* c, VectorRole role) {
  const CodecSpec& codec = c->shape.codec;
  const BlockLayout layout = MakeBlockLayout(codec);
  const bool is_keys = role == VectorRole::kKey;
  const std::vector<uint16_t>& tensor = is_keys ? c->keys : c->values;
  std::vector<float>& decoded = is_keys ? c->decoded.keys : c->decoded.values;
  decoded.resize(tensor.size());
  std::vector<float> rows(kBlockTokens * codec.head_dim);
  for (int64_t block = 0; block < c->num_tokens / kBlockTokens; ++block) {
    for (int head = 0; head < c->shape.num_kv_heads; ++head) {
      uint8_t* const part = c->canonical.data() +
                            (block * c->shape.num_kv_heads + head) * layout.head_bytes +
                            (is_keys ? 0 : layout.keys.size_bytes);
      EncodeReference(codec, role, GatherHead(tensor, c->shape, block, head).data(), part);
      DecodeReference(codec, role, part, rows.data());
      for (int t = 0; t < kBlockTokens; ++t) {
        std::copy_n(rows.begin() + t * codec.head_dim, codec.head_dim,
                    decoded.begin() + ((block * kBlockTokens + t) * c->shape.num_kv_heads + head) *
                                          codec.head_dim);
      }
    }
  }
}

// Repeats the first elements until there are `size`.
template <typename T>
void Repeat(std::vector<T>* elements, size_t size) {
  const size_t period = elements->size();
  elements->resize(size);
  for (size_t i = period; i < size; ++i) (*elements)[i] = (*elements)[i - period];
}

CodecCase MakeCodecCase(const CodecSpec& codec, int num_kv_heads, int64_t num_tokens) {
  if (num_tokens > kPeriodTokens) {
    CodecCase c = GetCodecCase(codec, num_kv_heads, kPeriodTokens);
    c.num_tokens = num_tokens;
    const size_t num_heads = num_tokens * num_kv_heads;
    const size_t size = num_heads * codec.head_dim;
    Repeat(&c.keys, size);
    Repeat(&c.values, size);
    for (DenseLayer* layer : {&c.exact, &c.decoded}) {
      Repeat(&layer->keys, size);
      Repeat(&layer->values, size);
    }
    Repeat(&c.canonical, num_heads / kBlockTokens * MakeBlockLayout(codec).head_bytes);
    return c;
  }
  CodecCase c;
  c.shape = {num_kv_heads, codec};
  c.num_tokens = num_tokens;
  const size_t size = num_tokens * num_kv_heads * codec.head_dim;
  c.keys = OutlierChannelTensor(1, size, codec.head_dim, 4, 5.0);
  c.values = GaussianTensor(2, size);
  c.exact = {num_kv_heads, codec.head_dim, ToFloats(c.keys), ToFloats(c.values)};
  c.decoded = {num_kv_heads, codec.head_dim, {}, {}};
  c.canonical.resize(num_tokens / kBlockTokens * num_kv_heads * MakeBlockLayout(codec).head_bytes);
  EncodeAndDecode(&c, VectorRole::kKey);
  EncodeAndDecode(&c, VectorRole::kValue);
  return c;
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const ConformanceBackend& backend) {
  return out << backend.name;
}

const CodecCase& GetCodecCase(const CodecSpec& codec, int num_kv_heads, int64_t num_tokens) {
  using Key = std::tuple<int, int, int, int, int, int, int64_t>;
  static auto& cases = *new std::map<Key, CodecCase>;
  const Key key{codec.head_dim,    codec.keys.kept, codec.keys.bits, codec.values.kept,
                codec.values.bits, num_kv_heads,    num_tokens};
  auto it = cases.find(key);
  if (it == cases.end()) {
    it = cases.emplace(key, MakeCodecCase(codec, num_kv_heads, num_tokens)).first;
  }
  return it->second;
}

std::unique_ptr<Backend> BackendConformanceTest::CreateBackend(int num_threads) const {
  return GetParam().create(kArenaBytes, num_threads).value();
}

uint64_t BackendConformanceTest::AllocateUnit(size_t size_bytes) {
  EXPECT_EQ(size_bytes % Backend::kUnitAlignment, 0u);
  const uint64_t offset = arena_used_;
  arena_used_ += size_bytes;
  EXPECT_LE(arena_used_, backend().arena_bytes());
  return offset;
}

TestLayer BackendConformanceTest::MakeLayer(const CodecCase& c, int64_t num_tokens,
                                            int num_exact_blocks) {
  TestLayer layer{c.shape, {}, {}, 0};
  const int64_t num_blocks = std::max<int64_t>(num_tokens / kBlockTokens - num_exact_blocks, 0);
  for (int64_t b = 0; b < num_blocks; ++b) layer.blocks.push_back(AllocateBlock(c.shape));
  EXPECT_TRUE(backend().WriteBlocks(c.shape, layer.blocks, c.canonical.data()).ok());
  layer.num_exact = static_cast<int>(num_tokens - num_blocks * kBlockTokens);
  const size_t row_size = size_t{1} * c.shape.num_kv_heads * c.shape.codec.head_dim;
  const Staged<uint16_t> keys(backend(), c.keys);
  const Staged<uint16_t> values(backend(), c.values);
  std::vector<WritePageTask> tasks;
  for (int first = 0; first < layer.num_exact; first += kPageTokens) {
    layer.pages.push_back(AllocatePage(c.shape));
    const size_t from = (num_blocks * kBlockTokens + first) * row_size;
    tasks.push_back({c.shape, layer.pages.back(), 0, std::min(kPageTokens, layer.num_exact - first),
                     keys.data() + from, values.data() + from});
  }
  EXPECT_TRUE(backend().Append({}, tasks).ok());
  return layer;
}

DenseLayer BackendConformanceTest::Decompressed(const CodecCase& c, const TestLayer& layer) {
  DenseLayer dense = c.exact;
  const size_t coded = layer.blocks.size() * kBlockTokens * c.shape.num_kv_heads *
                       static_cast<size_t>(c.shape.codec.head_dim);
  std::copy_n(c.decoded.keys.begin(), coded, dense.keys.begin());
  std::copy_n(c.decoded.values.begin(), coded, dense.values.begin());
  return dense;
}

std::vector<CodecSpec> PresetCodecs(int head_dim) {
  std::vector<CodecSpec> codecs;
  for (const CodecPreset& preset : CodecPresets()) {
    codecs.push_back(CodecFromPreset(preset.name, head_dim).value());
  }
  return codecs;
}

std::string Describe(const CodecSpec& codec) {
  return absl::StrCat(codec.head_dim, ": ", codec.keys.kept, "x", codec.keys.bits, " ",
                      codec.values.kept, "x", codec.values.bits);
}

}  // namespace kvattend::testing
