// How fast attention over a compressed cache is, beside attention over the same tokens as dense
// float16 in the same run (dense_attention.h).
//
//   attend_bench [tokens] [threads] [codec ...]
//
// One layer, one query token, 8 KV heads, 32 query heads, head_dim 128. Every result is compared
// with float64 attention over the decompressed cache before it is timed. Codec and peer take turns,
// and the best time of each counts, so that what else the machine does disturbs both alike.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "kernels/codec/block_layout.h"
#include "kernels/cpu/arena.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/bench/dense_attention.h"
#include "tests/support/random_tensors.h"
#include "tests/support/reference_attention.h"

namespace kvattend {
namespace {

constexpr int kKvHeads = 8;
constexpr int kQueryHeads = 32;
constexpr int kHeadDim = 128;
constexpr int64_t kRowSize = int64_t{kKvHeads} * kHeadDim;

struct Input {
  int64_t num_tokens;
  std::vector<uint16_t> keys;  // float16 [tokens, 8, 128]
  std::vector<uint16_t> values;
  std::vector<float> queries;  // float32 [32, 128]
};

Input MakeInput(int64_t num_tokens) {
  const size_t size = num_tokens * kRowSize;
  // A few channels of keys are large, as in trained models.
  return {num_tokens, testing::OutlierChannelTensor(1, size, kHeadDim, 6, 4.0),
          testing::GaussianTensor(2, size),
          testing::ToFloats(testing::GaussianTensor(3, kQueryHeads * kHeadDim))};
}

template <typename F>
double BestOf(int runs, const F& f) {
  double best = 1e30;
  for (int i = 0; i < runs; ++i) {
    const auto start = std::chrono::steady_clock::now();
    f();
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    best = std::min(best, time.count());
  }
  return best;
}

void Require(bool ok, const std::string& what) {
  if (ok) return;
  std::fprintf(stderr, "attend_bench: %s\n", what.c_str());
  std::exit(1);
}

// The dense cache, in the peer's layout, in huge pages as the arena is.
class DensePeer {
 public:
  DensePeer(const Input& input, int num_threads)
      : num_tokens_(input.num_tokens),
        arena_(Arena::Create(2 * input.keys.size() * sizeof(uint16_t)).value()),
        pool_(num_threads),
        output_(kQueryHeads * kHeadDim),
        lse_(kQueryHeads) {
    auto* const keys = reinterpret_cast<uint16_t*>(arena_.data());
    uint16_t* const values = keys + input.keys.size();
    for (int64_t t = 0; t < num_tokens_; ++t) {
      for (int h = 0; h < kKvHeads; ++h) {
        const int64_t from = t * kRowSize + h * kHeadDim;
        const int64_t block = (h * num_tokens_ + t / 64 * 64) * kHeadDim;
        for (int c = 0; c < kHeadDim; ++c) keys[block + c * 64 + t % 64] = input.keys[from + c];
        std::copy_n(&input.values[from], kHeadDim, values + (h * num_tokens_ + t) * kHeadDim);
      }
    }
    cache_ = {kKvHeads, kHeadDim, num_tokens_, keys, values};
  }

  void Run(const Query& query) {
    DenseAttend(cache_, query.data, query.scale, pool_, &partials_, output_.data(), lse_.data());
  }
  const std::vector<float>& output() const { return output_; }
  double bytes() const { return 2.0 * num_tokens_ * kRowSize * sizeof(uint16_t); }

 private:
  int64_t num_tokens_;
  Arena arena_;
  ThreadPool pool_;
  DenseCache cache_;
  std::vector<DensePartial> partials_;
  std::vector<float> output_;
  std::vector<float> lse_;
};

// The largest error of the outputs of KV head 0, relative to each row's largest element.
double WorstError(const std::vector<float>& output, const testing::DenseLayer& layer,
                  const Input& input, const Query& query) {
  Query rows = query;
  rows.num_query_heads = kQueryHeads / kKvHeads;
  const testing::ReferenceOutput expected = testing::ReferenceAttend(layer, input.num_tokens, rows);
  double worst = 0.0;
  for (int row = 0; row < rows.num_query_heads; ++row) {
    double largest = 0.0;
    double error = 0.0;
    for (int c = 0; c < kHeadDim; ++c) {
      const double want = expected.output[row * kHeadDim + c];
      const double difference = std::abs(output[row * kHeadDim + c] - want);
      largest = std::max(largest, std::abs(want));
      if (!(difference <= error)) error = difference;
    }
    if (!(error / largest <= worst)) worst = error / largest;
  }
  return worst;
}

testing::DenseLayer FirstHead(const std::vector<float>& keys, const std::vector<float>& values) {
  testing::DenseLayer layer{1, kHeadDim, {}, {}};
  for (size_t t = 0; t < keys.size(); t += kRowSize) {
    layer.keys.insert(layer.keys.end(), &keys[t], &keys[t] + kHeadDim);
    layer.values.insert(layer.values.end(), &values[t], &values[t] + kHeadDim);
  }
  return layer;
}

void Report(const char* name, double bits, double seconds, double bytes, double dense_seconds,
            double error) {
  std::printf("%-14s %8.2f %9.3f %8.1f %11.2f %12.1e\n", name, bits, seconds * 1e3,
              bytes / seconds / 1e9, dense_seconds / seconds, error);
  std::fflush(stdout);
}

void BenchCodec(const char* name, const Input& input, const Query& query, int num_threads,
                DensePeer& peer) {
  const auto codec = CodecFromPreset(name, kHeadDim);
  Require(codec.ok(), codec.status().ToString());
  const LayerShape shape{kKvHeads, *codec};
  const size_t num_blocks = input.num_tokens / kBlockTokens;
  const size_t block_bytes = kKvHeads * MakeBlockLayout(*codec).head_bytes;
  auto created = CpuBackend::Create({uint64_t{num_blocks} * (block_bytes + 256), num_threads});
  Require(created.ok(), "no arena");
  CpuBackend& backend = **created;

  std::vector<uint8_t> canonical(num_blocks * block_bytes);
  std::vector<uint64_t> blocks(num_blocks);
  for (size_t b = 0; b < num_blocks; ++b) blocks[b] = b * backend.BlockBytes(shape);
  std::vector<float> keys(input.keys.size());
  std::vector<float> values(input.values.size());
  Require(backend.Encode(shape, input.num_tokens, input.keys.data(), input.values.data(),
                         canonical.data())
                  .ok() &&
              backend.Decode(shape, input.num_tokens, canonical.data(), keys.data(), values.data())
                  .ok() &&
              backend.WriteBlocks(shape, blocks, canonical.data()).ok(),
          "cannot encode");

  std::vector<float> output(kQueryHeads * kHeadDim);
  std::vector<float> lse(kQueryHeads);
  const AttendTask task{{shape, blocks, {}, 0}, query, output.data(), lse.data()};
  const auto run = [&] { Require(backend.Attend({task}).ok(), "Attend failed"); };
  run();
  const double error = WorstError(output, FirstHead(keys, values), input, query);
  Require(error < 1e-3, std::string(name) + " differs from the reference");

  double seconds = 1e30;
  double dense_seconds = 1e30;
  for (int turn = 0; turn < 20; ++turn) {
    seconds = std::min(seconds, BestOf(10, run));
    dense_seconds = std::min(dense_seconds, BestOf(3, [&] { peer.Run(query); }));
  }
  Report(name, 8.0 * canonical.size() / (2 * input.keys.size()), seconds, canonical.size(),
         dense_seconds, error);
}

int Main(int argc, char** argv) {
  const int64_t num_tokens = argc > 1 ? std::atoll(argv[1]) : 32768;
  const int num_threads = argc > 2 ? std::atoi(argv[2]) : 2;
  Require(num_tokens > 0 && num_tokens % kBlockTokens == 0 && num_threads > 0,
          "tokens must be a multiple of 64");
  const Input input = MakeInput(num_tokens);
  const Query query{1, kQueryHeads, input.queries.data(), 1.0f / std::sqrt(float{kHeadDim}), 0};
  DensePeer peer(input, num_threads);
  peer.Run(query);
  const double error = WorstError(
      peer.output(), FirstHead(testing::ToFloats(input.keys), testing::ToFloats(input.values)),
      input, query);
  Require(error < 1e-3, "the dense peer differs from the reference");
  const double dense_seconds = BestOf(60, [&] { peer.Run(query); });

  std::printf("%lld tokens, %d KV heads, %d query heads, head_dim %d, %s\n",
              static_cast<long long>(num_tokens), kKvHeads, kQueryHeads, kHeadDim,
              CpuBackend::Create({1, num_threads}).value()->device().name.c_str());
  std::printf("%-14s %8s %9s %8s %11s %12s\n", "codec", "bits", "ms", "GB/s", "times dense",
              "worst error");
  Report("dense fp16", 16, dense_seconds, peer.bytes(), dense_seconds, error);
  std::vector<const char*> names(argv + std::min(argc, 3), argv + argc);
  if (names.empty()) {
    for (const CodecPreset& preset : CodecPresets()) names.push_back(preset.name);
  }
  for (const char* name : names) BenchCodec(name, input, query, num_threads, peer);
  return 0;
}

}  // namespace
}  // namespace kvattend

int main(int argc, char** argv) { return kvattend::Main(argc, argv); }
