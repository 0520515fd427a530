#include "tests/gpu/attend_case.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "kernels/base/half.h"
#include "kernels/codec/block_layout.h"
#include "kernels/codec/reference_codec.h"
#include "tests/gpu/gpu_layout_reference.h"
#include "tests/support/random_tensors.h"

namespace kvattend::testing {
namespace {

constexpr int kPagesAUnit = kBlockTokens / cuda::kTokensPerPage;

// Which contents a block, or a group of pages, of a session has.
int ContentOf(int session, int unit, int distinct) { return (7 * session + 5 * unit) % distinct; }

int64_t RoundUp(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }

}  // namespace

void CheckCuda(cudaError_t error, const char* file, int line) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s:%d: %s\n", file, line, cudaGetErrorString(error));
  std::exit(1);
}

AttendCase::AttendCase(const AttendCaseSpec& spec) : spec_(spec) {
  MakeContents();
  Upload();
}

AttendCase::~AttendCase() {
  for (void* allocation : allocations_) cudaFree(allocation);
}

void AttendCase::MakeContents() {
  const int head_dim = spec_.codec.head_dim;
  const size_t size = static_cast<size_t>(kBlockTokens * head_dim);
  const BlockLayout layout = MakeBlockLayout(spec_.codec);
  for (int i = 0; i < spec_.distinct_blocks; ++i) {
    std::vector<uint8_t> page_unit[kPagesAUnit];
    for (int h = 0; h < spec_.num_kv_heads; ++h) {
      const uint64_t seed = spec_.seed * 1000003 + static_cast<uint64_t>(i * 64 + h) * 4;
      // Keys have a few large channels, values one token that is far smaller than the others.
      const auto keys = OutlierChannelTensor(seed, size, head_dim, 4, 8.0);
      auto values = GaussianTensor(seed + 1, size);
      for (int c = 0; c < head_dim; ++c) values[c] = FloatToHalf(HalfToFloat(values[c]) / 64);
      for (const VectorRole role : {VectorRole::kKey, VectorRole::kValue}) {
        std::vector<uint8_t> part(layout.part(role).size_bytes);
        const bool is_key = role == VectorRole::kKey;
        EncodeReference(spec_.codec, role, (is_key ? keys : values).data(), part.data());
        std::vector<float>& decoded = is_key ? keys_ : values_;
        decoded.resize(decoded.size() + size);
        DecodeReference(spec_.codec, role, part.data(), decoded.data() + decoded.size() - size);
        const auto gpu = ToGpuPart(spec_.codec, role, part.data());
        block_units_.insert(block_units_.end(), gpu.begin(), gpu.end());
      }
      const auto exact_keys = GaussianTensor(seed + 2, size);
      const auto exact_values = GaussianTensor(seed + 3, size);
      for (const uint16_t x : exact_keys) exact_keys_.push_back(HalfToFloat(x));
      for (const uint16_t x : exact_values) exact_values_.push_back(HalfToFloat(x));
      for (int p = 0; p < kPagesAUnit; ++p) {
        const int offset = p * cuda::kTokensPerPage * head_dim;
        const auto page = ToGpuPage(head_dim, cuda::kTokensPerPage, exact_keys.data() + offset,
                                    exact_values.data() + offset);
        const auto* bytes = reinterpret_cast<const uint8_t*>(page.data());
        page_unit[p].insert(page_unit[p].end(), bytes, bytes + 2 * page.size());
      }
    }
    for (const auto& page : page_unit)
      page_units_.insert(page_units_.end(), page.begin(), page.end());
  }
}

void AttendCase::Upload() {
  const auto allocate = [this](int64_t size) {
    void* memory = nullptr;
    KVATTEND_CHECK_CUDA(cudaMalloc(&memory, static_cast<size_t>(std::max<int64_t>(size, 16))));
    allocations_.push_back(memory);
    return static_cast<uint8_t*>(memory);
  };
  const auto upload = [&](const auto& data) {
    const size_t size = data.size() * sizeof(data[0]);
    uint8_t* memory = allocate(static_cast<int64_t>(size));
    KVATTEND_CHECK_CUDA(cudaMemcpy(memory, data.data(), size, cudaMemcpyHostToDevice));
    return memory;
  };
  const int head_dim = spec_.codec.head_dim;
  const CodecSpec& codec = spec_.codec;
  launch_.keys = cuda::MakeGpuPartLayout(head_dim, codec.keys.kept, codec.keys.bits, true);
  launch_.values = cuda::MakeGpuPartLayout(head_dim, codec.values.kept, codec.values.bits, false);
  launch_.key_ratio = TwoBitMagnitudeRatio(codec.keys, head_dim);
  launch_.value_ratio = TwoBitMagnitudeRatio(codec.values, head_dim);
  const int head_bytes = launch_.keys.size_bytes + launch_.values.size_bytes;
  const int64_t unit_bytes = static_cast<int64_t>(spec_.num_kv_heads) * head_bytes;
  const int64_t page_bytes =
      static_cast<int64_t>(spec_.num_kv_heads) * cuda::PageHeadBytes(head_dim);
  const int64_t unit_stride = RoundUp(unit_bytes, 256);

  int64_t num_blocks = 0;
  int64_t num_pages = 0;
  int max_pairs = 0;
  for (const AttendSession& session : spec_.sessions) {
    num_blocks += session.num_blocks;
    num_pages += (session.num_exact + cuda::kTokensPerPage - 1) / cuda::kTokensPerPage;
    max_pairs = std::max(max_pairs, session.num_query_tokens * spec_.group);
    query_offsets_.push_back(num_outputs_);
    row_offsets_.push_back(num_rows_);
    const int64_t rows =
        static_cast<int64_t>(session.num_query_tokens) * spec_.num_kv_heads * spec_.group;
    num_rows_ += rows;
    num_outputs_ += rows * head_dim;
  }
  block_bytes_ = num_blocks * unit_bytes;
  RandomStream random(spec_.seed + 77);
  for (int64_t i = 0; i < num_outputs_; ++i) {
    queries_.push_back(static_cast<float>(random.Gaussian() * spec_.query_deviation));
  }
  const float* queries = reinterpret_cast<const float*>(upload(queries_));
  outputs_ = reinterpret_cast<float*>(allocate(num_outputs_ * 4));
  lses_ = reinterpret_cast<float*>(allocate(num_rows_ * 4));

  // Rotations of all blocks, then the pages.
  const int64_t arena_bytes = spec_.rotations * num_blocks * unit_stride + num_pages * page_bytes;
  uint8_t* arena = allocate(arena_bytes);
  KVATTEND_CHECK_CUDA(cudaMemset(arena, 0xff, static_cast<size_t>(arena_bytes)));
  const uint8_t* contents = upload(block_units_);
  const uint8_t* page_contents = upload(page_units_);
  const auto copy = [&](int64_t offset, const uint8_t* source, int64_t size) {
    KVATTEND_CHECK_CUDA(cudaMemcpyAsync(arena + offset, source, static_cast<size_t>(size),
                                        cudaMemcpyDeviceToDevice));
  };
  std::vector<uint64_t> pages;
  const int64_t first_page = spec_.rotations * num_blocks * unit_stride;
  for (int r = 0; r < spec_.rotations; ++r) {
    std::vector<uint64_t> blocks;
    for (size_t s = 0; s < spec_.sessions.size(); ++s) {
      for (int b = 0; b < spec_.sessions[s].num_blocks; ++b) {
        const int64_t offset = (r * num_blocks + static_cast<int64_t>(blocks.size())) * unit_stride;
        copy(offset,
             contents + ContentOf(static_cast<int>(s), b, spec_.distinct_blocks) * unit_bytes,
             unit_bytes);
        blocks.push_back(static_cast<uint64_t>(offset));
      }
    }
    const uint64_t* device_blocks = reinterpret_cast<const uint64_t*>(upload(blocks));
    if (r == 0) {
      for (size_t s = 0; s < spec_.sessions.size(); ++s) {
        for (int p = 0; p * cuda::kTokensPerPage < spec_.sessions[s].num_exact; ++p) {
          const int64_t offset = first_page + static_cast<int64_t>(pages.size()) * page_bytes;
          const int content =
              ContentOf(static_cast<int>(s), p / kPagesAUnit, spec_.distinct_blocks);
          copy(offset, page_contents + (content * kPagesAUnit + p % kPagesAUnit) * page_bytes,
               page_bytes);
          // What lies behind the last token must not matter.
          pages.push_back(static_cast<uint64_t>(offset));
        }
      }
    }
    const uint64_t* device_pages = reinterpret_cast<const uint64_t*>(upload(pages));
    std::vector<cuda::AttendItem> items;
    int64_t block = 0;
    int64_t page = 0;
    for (size_t s = 0; s < spec_.sessions.size(); ++s) {
      const AttendSession& session = spec_.sessions[s];
      items.push_back({.blocks = device_blocks + block,
                       .pages = device_pages + page,
                       .query = queries + query_offsets_[s],
                       .output = outputs_ + query_offsets_[s],
                       .lse = lses_ + row_offsets_[s],
                       .num_blocks = session.num_blocks,
                       .num_exact = session.num_exact,
                       .num_query_tokens = session.num_query_tokens,
                       .num_query_heads = spec_.num_kv_heads * spec_.group,
                       .num_kv_heads = spec_.num_kv_heads,
                       .start_position = session.start_position,
                       .scale = 1.0f / std::sqrt(static_cast<float>(head_dim)),
                       .group = spec_.group});
      block += session.num_blocks;
      page += (session.num_exact + cuda::kTokensPerPage - 1) / cuda::kTokensPerPage;
    }
    plans_.emplace_back();
    items_.push_back(reinterpret_cast<const cuda::AttendItem*>(upload(items)));
    launch_.num_column_tiles = cuda::ColumnTilesFor(max_pairs);
    for (size_t s = 0; s < items.size(); ++s) {
      const int64_t first = items[s].blocks - device_blocks;
      cuda::PlanItem(static_cast<int>(s), items[s], blocks.data() + first, head_bytes,
                     launch_.num_column_tiles, plans_.back());
    }
  }
  launch_.arena = arena;
  for (const cuda::AttendPlan& plan : plans_) {
    tasks_.push_back(reinterpret_cast<const cuda::AttendTask*>(upload(plan.tasks)));
  }
  launch_.num_tasks = static_cast<int>(plans_[0].tasks.size());
  launch_.merges = reinterpret_cast<const cuda::MergeTask*>(upload(plans_[0].merges));
  launch_.num_merges = static_cast<int>(plans_[0].merges.size());
  const int64_t partials =
      static_cast<int64_t>(launch_.num_tasks) * cuda::kPairsATile * launch_.num_column_tiles;
  launch_.partial_outputs = reinterpret_cast<float*>(allocate(partials * head_dim * 4));
  launch_.partial_stats = reinterpret_cast<float2*>(allocate(partials * 8));
  launch_.next_task = reinterpret_cast<uint32_t*>(upload(std::vector<uint32_t>{0}));
  int device = 0;
  KVATTEND_CHECK_CUDA(cudaGetDevice(&device));
  KVATTEND_CHECK_CUDA(
      cudaDeviceGetAttribute(&launch_.num_multiprocessors, cudaDevAttrMultiProcessorCount, device));
  KVATTEND_CHECK_CUDA(cudaDeviceGetAttribute(&launch_.max_shared_bytes,
                                             cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  int major = 0;
  KVATTEND_CHECK_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  launch_.has_dependent_launch = major >= 9;
  KVATTEND_CHECK_CUDA(cudaDeviceSynchronize());
}

cudaError_t AttendCase::Launch(int rotation, cudaStream_t stream) {
  launch_.items = items_[static_cast<size_t>(rotation)];
  launch_.tasks = tasks_[static_cast<size_t>(rotation)];
  return cuda::LaunchAttend(launch_, stream);
}

void AttendCase::Poison() {
  KVATTEND_CHECK_CUDA(cudaMemset(outputs_, 0xff, static_cast<size_t>(num_outputs_ * 4)));
  KVATTEND_CHECK_CUDA(cudaMemset(lses_, 0xff, static_cast<size_t>(num_rows_ * 4)));
}

std::vector<uint32_t> AttendCase::ResultBits() const {
  std::vector<uint32_t> bits(static_cast<size_t>(num_outputs_ + num_rows_));
  KVATTEND_CHECK_CUDA(cudaMemcpy(bits.data(), outputs_, static_cast<size_t>(num_outputs_ * 4),
                                 cudaMemcpyDeviceToHost));
  KVATTEND_CHECK_CUDA(cudaMemcpy(bits.data() + num_outputs_, lses_,
                                 static_cast<size_t>(num_rows_ * 4), cudaMemcpyDeviceToHost));
  return bits;
}

AttendRow AttendCase::Result(int session, int token, int head) const {
  const int head_dim = spec_.codec.head_dim;
  const int64_t row =
      row_offsets_[session] + static_cast<int64_t>(token) * spec_.num_kv_heads * spec_.group + head;
  std::vector<float> output(static_cast<size_t>(head_dim));
  float lse = 0.0f;
  KVATTEND_CHECK_CUDA(cudaMemcpy(output.data(), outputs_ + row * head_dim,
                                 static_cast<size_t>(head_dim * 4), cudaMemcpyDeviceToHost));
  KVATTEND_CHECK_CUDA(cudaMemcpy(&lse, lses_ + row, 4, cudaMemcpyDeviceToHost));
  return {.output = {output.begin(), output.end()}, .lse = lse};
}

AttendRow AttendCase::Reference(int session, int token, int head) const {
  const AttendSession& shape = spec_.sessions[session];
  const int head_dim = spec_.codec.head_dim;
  const int kv_head = head / spec_.group;
  const float* q =
      queries_.data() + query_offsets_[session] +
      (static_cast<int64_t>(token) * spec_.num_kv_heads * spec_.group + head) * head_dim;
  const int end = shape.length() - shape.num_query_tokens + token + 1;
  const auto vector_of = [&](const std::vector<float>& blocks, const std::vector<float>& exact,
                             int t) {
    const bool is_exact = t >= shape.num_blocks * kBlockTokens;
    const int unit = (is_exact ? t - shape.num_blocks * kBlockTokens : t) / kBlockTokens;
    const int64_t content = ContentOf(session, unit, spec_.distinct_blocks);
    return (is_exact ? exact : blocks).data() +
           ((content * spec_.num_kv_heads + kv_head) * kBlockTokens + t % kBlockTokens) * head_dim;
  };
  const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
  std::vector<double> scores;
  for (int t = shape.start_position; t < end; ++t) {
    const float* k = vector_of(keys_, exact_keys_, t);
    double dot = 0.0;
    for (int c = 0; c < head_dim; ++c) dot += static_cast<double>(q[c]) * k[c];
    scores.push_back(dot * scale);
  }
  const double maximum = *std::max_element(scores.begin(), scores.end());
  AttendRow row{.output = std::vector<double>(static_cast<size_t>(head_dim), 0.0)};
  double sum = 0.0;
  for (int t = shape.start_position; t < end; ++t) {
    const double weight = std::exp(scores[static_cast<size_t>(t - shape.start_position)] - maximum);
    const float* v = vector_of(values_, exact_values_, t);
    sum += weight;
    for (int c = 0; c < head_dim; ++c) row.output[c] += weight * v[c];
  }
  for (double& x : row.output) x /= sum;
  row.lse = maximum + std::log(sum);
  return row;
}

double AttendCase::WorstError(int stride, std::string* where) const {
  double worst = -1.0;
  int64_t index = 0;
  for (int s = 0; s < static_cast<int>(spec_.sessions.size()); ++s) {
    for (int token = 0; token < spec_.sessions[s].num_query_tokens; ++token) {
      for (int head = 0; head < spec_.num_kv_heads * spec_.group; ++head, ++index) {
        if (index % stride != 0) continue;
        const AttendRow result = Result(s, token, head);
        const AttendRow reference = Reference(s, token, head);
        double error = 0.0;
        double norm = 0.0;
        for (size_t c = 0; c < result.output.size(); ++c) {
          const double difference = result.output[c] - reference.output[c];
          error += difference * difference;
          norm += reference.output[c] * reference.output[c];
        }
        error = std::max(std::sqrt(error / norm), std::abs(result.lse - reference.lse));
        // A NaN is the worst of all.
        if (std::isnan(error)) error = std::numeric_limits<double>::infinity();
        if (error > worst) {
          worst = error;
          char text[160];
          std::snprintf(text, sizeof text, "session %d token %d head %d: lse %.6f, expected %.6f",
                        s, token, head, result.lse, reference.lse);
          *where = text;
        }
      }
    }
  }
  return worst;
}

}  // namespace kvattend::testing
