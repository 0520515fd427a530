// What every backend must do, as tests over the Backend interface. A program that runs them links
// the *_conformance.cc files and defines ConformanceBackends().
#ifndef KVATTEND_TESTS_KERNELS_CONFORMANCE_CONFORMANCE_H_
#define KVATTEND_TESTS_KERNELS_CONFORMANCE_CONFORMANCE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "gtest/gtest.h"
#include "kernels/backend.h"
#include "tests/support/reference_attention.h"

namespace kvattend::testing {

// One configuration of a backend, e.g. one instruction set.
struct ConformanceBackend {
  std::string name;
  // num_threads: as many as that on the host, where the backend computes there.
  std::function<absl::StatusOr<std::unique_ptr<Backend>>(uint64_t arena_bytes, int num_threads)>
      create;
  // Of attention: of a row's output relative to its largest element, and of the LSE.
  double tolerance = 3e-4;
  // The same where scores are in the hundreds: a backend that rounds queries is off by a share of
  // the score.
  double large_score_tolerance = 3e-4;
};
std::ostream& operator<<(std::ostream& out, const ConformanceBackend& backend);

std::vector<ConformanceBackend> ConformanceBackends();

// Staging memory for `count` values, each set to `poison`.
template <typename T>
class Staged {
 public:
  Staged(Backend& backend, size_t count, T poison) : size_(count) {
    buffer_ = backend.AllocateStaging(count * sizeof(T)).value();
    std::fill_n(data(), count, poison);
  }
  Staged(Backend& backend, const std::vector<T>& values) : Staged(backend, values.size(), T{}) {
    std::copy(values.begin(), values.end(), data());
  }
  T* data() const { return reinterpret_cast<T*>(buffer_.get()); }
  size_t size() const { return size_; }
  T& operator[](size_t i) const { return data()[i]; }
  std::vector<T> ToVector() const { return std::vector<T>(data(), data() + size_); }

 private:
  StagingBuffer buffer_;
  size_t size_;
};

// One layer of one session in a backend's arena.
struct TestLayer {
  LayerView View() const { return {shape, blocks, pages, num_exact}; }
  int64_t length() const { return View().length(); }

  LayerShape shape;
  std::vector<uint64_t> blocks;
  std::vector<uint64_t> pages;
  int num_exact = 0;
};

// A codec with random tokens for it: float16 tensors [tokens, num_kv_heads, head_dim], what the
// backend makes of whole blocks of them, and what that decompresses to.
struct CodecCase {
  LayerShape shape;
  int64_t num_tokens = 0;
  std::vector<uint16_t> keys;
  std::vector<uint16_t> values;
  std::vector<uint8_t> canonical;
  DenseLayer decoded;
  DenseLayer exact;
};
// Encoded and decoded by the scalar reference, kept for the next call. num_tokens: a multiple
// of 64. Keys have a few channels that are larger than others.
const CodecCase& GetCodecCase(const CodecSpec& codec, int num_kv_heads, int64_t num_tokens);

class BackendConformanceTest : public ::testing::TestWithParam<ConformanceBackend> {
 protected:
  void SetUp() override { backend_ = CreateBackend(/*num_threads=*/2); }

  std::unique_ptr<Backend> CreateBackend(int num_threads) const;
  Backend& backend() { return *backend_; }

  // Takes arena space; never given back.
  uint64_t AllocateUnit(size_t size_bytes);
  uint64_t AllocateBlock(const LayerShape& shape) {
    return AllocateUnit(backend().BlockBytes(shape));
  }
  uint64_t AllocatePage(const LayerShape& shape) {
    return AllocateUnit(backend().PageBytes(shape));
  }

  // A layer of the case's first num_tokens tokens: all whole blocks but the last num_exact_blocks
  // compressed, the rest in pages.
  TestLayer MakeLayer(const CodecCase& c, int64_t num_tokens, int num_exact_blocks);
  // What such a layer holds, decompressed.
  static DenseLayer Decompressed(const CodecCase& c, const TestLayer& layer);

 private:
  std::unique_ptr<Backend> backend_;
  uint64_t arena_used_ = 0;
};

// All presets at head_dim.
std::vector<CodecSpec> PresetCodecs(int head_dim);

// For test names and messages, e.g. "128: 38x2 38x2".
std::string Describe(const CodecSpec& codec);

}  // namespace kvattend::testing

#endif  // KVATTEND_TESTS_KERNELS_CONFORMANCE_CONFORMANCE_H_
