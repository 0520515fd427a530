// A backend whose strings a test holds: it computes nothing, but follows each token.
//
// A token's tag is the bit pattern of its first key value. The puppet keeps the tags that each unit
// of its imaginary arena holds, so that a test sees which tokens a layer is made of, and fails the
// test where a task reads what nobody wrote or names a unit that cannot be one.
//
// Attend sets outputs to the number of the task in its call, the first row's LSE to the number of
// tokens of the layer. ComputeScores gives tags as scores, in order, and their positions.
//
// Thread-safe.
#ifndef KVATTEND_TESTS_SUPPORT_PUPPET_BACKEND_H_
#define KVATTEND_TESTS_SUPPORT_PUPPET_BACKEND_H_

#include <cstdint>
#include <map>
#include <vector>

#include "kernels/backend.h"
#include "server/base/mutex.h"

namespace kvattend::testing {

class PuppetBackend final : public Backend {
 public:
  // What unwritten slots hold, and those that a failed call was to write.
  static constexpr int kUnwritten = -1;
  static constexpr int kGarbage = -2;

  struct Attended {
    std::vector<int> tokens;
    Query query;
  };
  // How many tasks each call had.
  struct AppendCall {
    size_t compressions = 0;
    size_t writes = 0;
  };

  explicit PuppetBackend(uint64_t arena_bytes) : arena_bytes_(arena_bytes) {}

  // Calls with tasks wait from now on until Release.
  void Hold();
  void WaitUntilHeld();
  void Release();
  // The call with tasks after `skip` others fails with `status`, having written garbage to all
  // units it was to write.
  void FailCall(int skip, absl::Status status);
  // The next AllocateStaging fails.
  void FailStaging();

  // The tags of a layer's tokens.
  std::vector<int> Tokens(const LayerView& layer) const;
  std::vector<AppendCall> append_calls() const;
  std::vector<std::vector<Attended>> attend_calls() const;
  // Codes of blocks.
  CodecSpec BlockCodec(uint64_t block) const;

  const DeviceInfo& device() const override { return device_; }
  uint64_t arena_bytes() const override { return arena_bytes_; }
  size_t BlockBytes(const LayerShape& shape) const override;
  size_t PageBytes(const LayerShape& shape) const override;
  absl::StatusOr<StagingBuffer> AllocateStaging(size_t size_bytes) override;

  absl::Status Append(absl::Span<const CompressTask> compress,
                      absl::Span<const WritePageTask> write) override;
  absl::Status CopyPages(absl::Span<const CopyPageTask> tasks) override;
  absl::Status Recode(absl::Span<const RecodeTask> tasks) override;
  absl::Status Attend(absl::Span<const AttendTask> tasks) override;
  absl::Status ComputeScores(absl::Span<const ScoreTask> tasks) override;

  // A puppet has no codec: these are UNIMPLEMENTED.
  absl::Status ReadBlocks(const LayerShape& shape, absl::Span<const uint64_t> blocks,
                          uint8_t* canonical) override;
  absl::Status WriteBlocks(const LayerShape& shape, absl::Span<const uint64_t> blocks,
                           const uint8_t* canonical) override;
  absl::Status Encode(const LayerShape& shape, int64_t num_tokens, const uint16_t* keys,
                      const uint16_t* values, uint8_t* canonical) override;
  absl::Status Decode(const LayerShape& shape, int64_t num_tokens, const uint8_t* canonical,
                      float* keys, float* values) override;
  absl::StatusOr<mustafar::Tiles> CompressTiles(const mustafar::TileSpec& spec,
                                                absl::Span<const uint16_t> dense) override;
  absl::StatusOr<std::vector<float>> DecompressTiles(const mustafar::Tiles& tiles) override;
  absl::StatusOr<std::vector<float>> TileScores(const mustafar::Tiles& key_tiles,
                                                absl::Span<const uint16_t> queries) override;
  absl::StatusOr<std::vector<float>> TileOutputs(const mustafar::Tiles& value_tiles,
                                                 absl::Span<const float> weights) override;

 private:
  struct Unit {
    std::vector<int> tags;
    // Of blocks.
    CodecSpec codec;
  };

  // Waits while held; gives the status that the call is to fail with.
  absl::Status Enter() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CheckUnit(uint64_t offset, size_t size_bytes) const;
  // A page's slots, unwritten ones if it is new or was a block.
  std::vector<int>& Page(uint64_t offset) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::vector<int> TokensLocked(const LayerView& layer) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const DeviceInfo device_ = {"cpu", "puppet"};
  const uint64_t arena_bytes_;
  mutable Mutex mutex_;
  CondVar changed_;
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
  bool waiting_ ABSL_GUARDED_BY(mutex_) = false;
  int calls_until_failure_ ABSL_GUARDED_BY(mutex_) = -1;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  bool fail_staging_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<uint64_t, Unit> units_ ABSL_GUARDED_BY(mutex_);
  std::vector<AppendCall> append_calls_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::vector<Attended>> attend_calls_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvattend::testing

#endif  // KVATTEND_TESTS_SUPPORT_PUPPET_BACKEND_H_
