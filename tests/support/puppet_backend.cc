#include "tests/support/puppet_backend.h"

#include <algorithm>

#include "gtest/gtest.h"

namespace kvattend::testing {
namespace {

size_t RoundUp(size_t size_bytes) {
  return (size_bytes + Backend::kUnitAlignment - 1) / Backend::kUnitAlignment *
         Backend::kUnitAlignment;
}

size_t TokenStride(const LayerShape& shape) {
  return static_cast<size_t>(shape.num_kv_heads) * static_cast<size_t>(shape.codec.head_dim);
}

int StagedTag(const uint16_t* keys, const LayerShape& shape, int token) {
  return keys[static_cast<size_t>(token) * TokenStride(shape)];
}

absl::Status NoCodec() { return absl::UnimplementedError("a puppet has no codec"); }

}  // namespace

void PuppetBackend::Hold() {
  MutexLock lock(&mutex_);
  held_ = true;
}

void PuppetBackend::WaitUntilHeld() {
  MutexLock lock(&mutex_);
  while (!waiting_) changed_.Wait(&mutex_);
}

void PuppetBackend::Release() {
  MutexLock lock(&mutex_);
  held_ = false;
  changed_.NotifyAll();
}

void PuppetBackend::FailCall(int skip, absl::Status status) {
  MutexLock lock(&mutex_);
  calls_until_failure_ = skip;
  failure_ = std::move(status);
}

void PuppetBackend::FailStaging() {
  MutexLock lock(&mutex_);
  fail_staging_ = true;
}

std::vector<int> PuppetBackend::Tokens(const LayerView& layer) const {
  MutexLock lock(&mutex_);
  return TokensLocked(layer);
}

std::vector<PuppetBackend::AppendCall> PuppetBackend::append_calls() const {
  MutexLock lock(&mutex_);
  return append_calls_;
}

std::vector<std::vector<PuppetBackend::Attended>> PuppetBackend::attend_calls() const {
  MutexLock lock(&mutex_);
  return attend_calls_;
}

CodecSpec PuppetBackend::BlockCodec(uint64_t block) const {
  MutexLock lock(&mutex_);
  return units_.at(block).codec;
}

size_t PuppetBackend::BlockBytes(const LayerShape& shape) const {
  const int token_bits = shape.codec.keys.kept * shape.codec.keys.bits +
                         shape.codec.values.kept * shape.codec.values.bits;
  return RoundUp(static_cast<size_t>(shape.num_kv_heads) * static_cast<size_t>(token_bits) *
                 kBlockTokens / 8);
}

size_t PuppetBackend::PageBytes(const LayerShape& shape) const {
  return RoundUp(TokenStride(shape) * kPageTokens * 2 * sizeof(uint16_t));
}

absl::StatusOr<StagingBuffer> PuppetBackend::AllocateStaging(size_t size_bytes) {
  MutexLock lock(&mutex_);
  if (fail_staging_) {
    fail_staging_ = false;
    return absl::ResourceExhaustedError("the puppet has no staging memory");
  }
  return StagingBuffer(new std::byte[size_bytes], [](std::byte* data) { delete[] data; });
}

absl::Status PuppetBackend::Append(absl::Span<const CompressTask> compress,
                                   absl::Span<const WritePageTask> write) {
  MutexLock lock(&mutex_);
  const absl::Status failure = Enter();
  append_calls_.push_back({compress.size(), write.size()});
  for (const CompressTask& task : compress) {
    CheckUnit(task.block, BlockBytes(task.shape));
    std::vector<int> tags;
    for (int i = 0; i < task.num_paged; ++i) {
      tags.push_back(Page(task.pages[i / kPageTokens])[i % kPageTokens]);
      EXPECT_GE(tags.back(), 0) << "a task compresses token " << i << ", which nobody wrote";
    }
    for (int i = task.num_paged; i < kBlockTokens; ++i) {
      tags.push_back(StagedTag(task.keys, task.shape, i - task.num_paged));
    }
    if (!failure.ok()) std::fill(tags.begin(), tags.end(), kGarbage);
    units_[task.block] = {std::move(tags), task.shape.codec};
  }
  for (const WritePageTask& task : write) {
    CheckUnit(task.page, PageBytes(task.shape));
    EXPECT_LE(task.first_slot + task.num_tokens, kPageTokens);
    for (int i = 0; i < task.num_tokens; ++i) {
      Page(task.page)[task.first_slot + i] =
          failure.ok() ? StagedTag(task.keys, task.shape, i) : kGarbage;
    }
  }
  return failure;
}

absl::Status PuppetBackend::CopyPages(absl::Span<const CopyPageTask> tasks) {
  MutexLock lock(&mutex_);
  const absl::Status failure = Enter();
  for (const CopyPageTask& task : tasks) {
    CheckUnit(task.destination, PageBytes(task.shape));
    const std::vector<int> source = Page(task.source);
    std::vector<int>& destination = Page(task.destination);
    std::fill(destination.begin(), destination.end(), kUnwritten);
    for (int i = 0; i < task.num_tokens; ++i) {
      EXPECT_GE(source[i], 0) << "a task copies token " << i << ", which nobody wrote";
      destination[i] = failure.ok() ? source[i] : kGarbage;
    }
  }
  return failure;
}

absl::Status PuppetBackend::Recode(absl::Span<const RecodeTask> tasks) {
  MutexLock lock(&mutex_);
  const absl::Status failure = Enter();
  for (const RecodeTask& task : tasks) {
    CheckUnit(task.destination, BlockBytes({task.source_shape.num_kv_heads, task.codec}));
    const Unit source = units_.at(task.source);
    EXPECT_EQ(source.codec, task.source_shape.codec);
    units_[task.destination] = {
        failure.ok() ? source.tags : std::vector<int>(kBlockTokens, kGarbage), task.codec};
  }
  return failure;
}

absl::Status PuppetBackend::Attend(absl::Span<const AttendTask> tasks) {
  MutexLock lock(&mutex_);
  const absl::Status failure = Enter();
  std::vector<Attended> attended;
  for (const AttendTask& task : tasks) {
    const size_t rows = static_cast<size_t>(task.query.num_tokens) *
                        static_cast<size_t>(task.query.num_query_heads);
    std::fill_n(task.output, rows * static_cast<size_t>(task.layer.shape.codec.head_dim),
                static_cast<float>(attended.size()));
    std::fill_n(task.lse, rows, static_cast<float>(task.layer.length()));
    attended.push_back({TokensLocked(task.layer), task.query});
  }
  attend_calls_.push_back(std::move(attended));
  return failure;
}

absl::Status PuppetBackend::ComputeScores(absl::Span<const ScoreTask> tasks) {
  MutexLock lock(&mutex_);
  const absl::Status failure = Enter();
  std::vector<Attended> attended;
  for (const ScoreTask& task : tasks) {
    std::vector<int> tokens = TokensLocked(task.layer);
    const int64_t visible = task.layer.length() - task.query.start_position;
    const int64_t num_scores = task.top_k > 0 ? std::min<int64_t>(task.top_k, visible) : visible;
    const int64_t rows = int64_t{task.query.num_tokens} * task.query.num_query_heads;
    for (int64_t i = 0; i < rows * num_scores; ++i) {
      const int64_t position = task.query.start_position + i % num_scores;
      task.scores[i] = static_cast<float>(tokens[static_cast<size_t>(position)]);
      if (task.top_k > 0) task.positions[i] = position;
    }
    attended.push_back({std::move(tokens), task.query});
  }
  attend_calls_.push_back(std::move(attended));
  return failure;
}

absl::Status PuppetBackend::Enter() {
  while (held_) {
    waiting_ = true;
    changed_.NotifyAll();
    changed_.Wait(&mutex_);
  }
  waiting_ = false;
  if (calls_until_failure_ < 0 || calls_until_failure_-- > 0) return absl::OkStatus();
  return failure_;
}

void PuppetBackend::CheckUnit(uint64_t offset, size_t size_bytes) const {
  EXPECT_EQ(offset % kUnitAlignment, 0u);
  EXPECT_LE(offset + size_bytes, arena_bytes_);
}

std::vector<int>& PuppetBackend::Page(uint64_t offset) {
  std::vector<int>& tags = units_[offset].tags;
  if (tags.size() != kPageTokens) tags.assign(kPageTokens, kUnwritten);
  return tags;
}

std::vector<int> PuppetBackend::TokensLocked(const LayerView& layer) const {
  std::vector<int> tokens;
  for (uint64_t block : layer.blocks) {
    const Unit& unit = units_.at(block);
    EXPECT_EQ(unit.codec, layer.shape.codec);
    tokens.insert(tokens.end(), unit.tags.begin(), unit.tags.end());
  }
  for (int i = 0; i < layer.num_exact; ++i) {
    tokens.push_back(units_.at(layer.pages[i / kPageTokens]).tags[i % kPageTokens]);
  }
  return tokens;
}

absl::Status PuppetBackend::ReadBlocks(const LayerShape&, absl::Span<const uint64_t>, uint8_t*) {
  return NoCodec();
}
absl::Status PuppetBackend::WriteBlocks(const LayerShape&, absl::Span<const uint64_t>,
                                        const uint8_t*) {
  return NoCodec();
}
absl::Status PuppetBackend::Encode(const LayerShape&, int64_t, const uint16_t*, const uint16_t*,
                                   uint8_t*) {
  return NoCodec();
}
absl::Status PuppetBackend::Decode(const LayerShape&, int64_t, const uint8_t*, float*, float*) {
  return NoCodec();
}
absl::StatusOr<mustafar::Tiles> PuppetBackend::CompressTiles(const mustafar::TileSpec&,
                                                             absl::Span<const uint16_t>) {
  return NoCodec();
}
absl::StatusOr<std::vector<float>> PuppetBackend::DecompressTiles(const mustafar::Tiles&) {
  return NoCodec();
}
absl::StatusOr<std::vector<float>> PuppetBackend::TileScores(const mustafar::Tiles&,
                                                             absl::Span<const uint16_t>) {
  return NoCodec();
}
absl::StatusOr<std::vector<float>> PuppetBackend::TileOutputs(const mustafar::Tiles&,
                                                              absl::Span<const float>) {
  return NoCodec();
}

}  // namespace kvattend::testing
