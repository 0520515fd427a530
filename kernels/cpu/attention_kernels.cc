#include "kernels/cpu/attention_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_kernels.cc"
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/cpu/attention_scratch.h"
#include "kernels/cpu/avx3_dl-inl.h"
#include "kernels/cpu/expand-inl.h"
#include "kernels/cpu/multiply-inl.h"
#include "kernels/cpu/softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvattend {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if KVATTEND_AVX3_DL
PackedRows PackedWeights(AttentionScratch& scratch, int num_reduced) {
  return {scratch.weight_bytes,   num_reduced,
          scratch.weight_unit,    scratch.weight_sum,
          scratch.weight_top_sum, scratch.weight_top_quads};
}

// The unit of rounded queries that keeps the standard deviation of a score's error at 1e-4:
// rounding moves each weight by 0.29 units (uniform), and a score by that times the key's norm.
float QueryUnitLimit(const NativePart& keys, const float* scales, float factor) {
  constexpr float kScoreDeviation = 1e-4f;
  const float largest_scale = *std::max_element(scales, scales + kBlockTokens);
  const float key_norm = keys.level_norm * largest_scale;
  return kScoreDeviation / std::max(0.29f * std::abs(factor) * key_norm, 1e-30f);
}
#endif

// out[r][i] = rows[r][i] * multipliers[i]; count is a multiple of 16.
void ScaleRows(ConstRows rows, const float* multipliers, int num_rows, int count, Rows out) {
  const FloatTag d;
  for (int r = 0; r < num_rows; ++r) {
    for (int i = 0; i < count; i += static_cast<int>(hn::Lanes(d))) {
      hn::StoreU(hn::Mul(hn::LoadU(d, rows.From(r, i).data), hn::LoadU(d, multipliers + i)), d,
                 out.From(r, i).data);
    }
  }
}

// What a split's kernels share: the task, the scratch and rows in it.
class SplitKernel {
 public:
  SplitKernel(const SplitTask& task, AttentionScratch& scratch)
      : task_(task), scratch_(scratch), head_dim_(task.keys->head_dim) {
    for (int r = 0; r < task.num_rows; ++r) {
      std::memcpy(scratch.queries + r * head_dim_, task.queries[r], head_dim_ * sizeof(float));
    }
  }

  // All scores of segment s, also of tokens that a row does not see, to scratch.scores.
  void ScoreSegment(int s) {
    const Segment& segment = task_.segments[s];
    if (s + 1 < NumSegments()) {
      Announce(task_.segments[s + 1].keys, *task_.keys);
    } else {
      Announce(task_.segments[task_.first_segment].values, *task_.values);
    }
    const Rows scores{scratch_.scores + s * kBlockTokens, kSplitTokens};
    if (segment.keys == nullptr) return ScorePages(segment, scores);
    ExpandScales(*task_.keys, segment.keys, scratch_.scales);
#if KVATTEND_AVX3_DL
    if (task_.keys->quads) return ScoreQuads(segment, scores);
#endif
    ScoreBlock(segment, scores);
  }

  // Adds segment s's values, weighted by scratch.scores, to `output`.
  void AddValues(int s, Rows output) {
    const Segment& segment = task_.segments[s];
    Announce(s + 1 < NumSegments() ? task_.segments[s + 1].values : nullptr, *task_.values);
    const ConstRows weights{scratch_.scores + s * kBlockTokens, kSplitTokens};
    if (segment.values == nullptr) return AddPages(segment, weights, output);
#if KVATTEND_AVX3_DL
    if (task_.values->quads) return AddQuads(segment, weights, output);
#endif
    AddBlock(segment, weights, output);
  }

 private:
  int NumSegments() const { return static_cast<int>(task_.segments.size()); }

  // Says which part comes next, so that its memory can be fetched while this one is worked on:
  // blocks lie anywhere, and a head's part is too short for the hardware to foresee. Null: none.
  void Announce(const uint8_t* data, const NativePart& part) {
    next_ = data;
    next_end_ = data == nullptr ? nullptr : data + part.layout.size_bytes;
  }
  // Fetches the next `size` bytes of the part announced.
  void Prefetch(size_t size) {
    constexpr size_t kLine = 64;
    for (size_t i = 0; i < size && next_ < next_end_; i += kLine, next_ += kLine) {
      hwy::Prefetch(next_);
    }
  }

  ConstRows queries() const { return {scratch_.queries, head_dim_}; }
  Rows weights(int count) const { return {scratch_.weights, count}; }

  void ScorePages(const Segment& segment, Rows scores) {
    ClearScores(scores);
    const int num_pages = hwy::DivCeil(segment.num_tokens, kPageTokens);
    MultiplyFloats(PageElements{segment.page_keys}, head_dim_, num_pages * kPageTokens,
                   task_.num_rows, queries(), scores);
    ScaleScores(nullptr, scores);
  }

  void ScoreBlock(const Segment& segment, Rows scores) {
    ConstRows rows = queries();
    if (task_.keys->layout.has_exponents) {
      MultiplyByExponents(segment);
      ScaleRows(rows, scratch_.multipliers, task_.num_rows, head_dim_, weights(head_dim_));
      rows = {scratch_.weights, head_dim_};
    }
    ClearScores(scores);
    MultiplyPart(*task_.keys, segment.keys, rows, scores);
    ScaleScores(scratch_.scales, scores);
  }

  // sums[row][lane] += the sum of weights[row][i] times the part's element (i, lane).
  void MultiplyPart(const NativePart& part, const uint8_t* data, ConstRows rows, Rows sums) {
    // Evenly: more at a time than the core has buffers for would stop it.
    const int num_chunks = kBlockTokens * head_dim_ / (kChunk * part.group_lanes());
    const size_t prefetch = part.layout.size_bytes / num_chunks + 1;
    const auto multiply = [&](const auto& elements, int first, int lane) HWY_ATTR {
      Prefetch(prefetch);
      MultiplyFloats(elements, kChunk, part.group_lanes(), task_.num_rows, rows.From(0, first),
                     sums.From(0, lane));
    };
    ForEachChunk(part, data, scratch_, multiply);
  }

  void ClearScores(Rows scores) {
    for (int r = 0; r < task_.num_rows; ++r) {
      std::memset(scores.From(r, 0).data, 0, kBlockTokens * sizeof(float));
    }
  }

  // scores *= factor, and the tokens' scales where there are any.
  void ScaleScores(const float* scales, Rows scores) {
    const FloatTag d;
    const auto factor = hn::Set(d, task_.factor);
    for (int i = 0; i < kBlockTokens; i += static_cast<int>(hn::Lanes(d))) {
      const auto scale = scales == nullptr ? factor : hn::Mul(hn::LoadU(d, scales + i), factor);
      for (int r = 0; r < task_.num_rows; ++r) {
        float* const score = scores.From(r, i).data;
        hn::StoreU(hn::Mul(hn::LoadU(d, score), scale), d, score);
      }
    }
  }

  void MultiplyByExponents(const Segment& segment) {
    ExpandExponents(
        reinterpret_cast<const int8_t*>(segment.keys + task_.keys->layout.exponent_offset),
        head_dim_, scratch_.multipliers);
  }

  void AddPages(const Segment& segment, ConstRows rows, Rows output) {
    // Slots past the last token were never written and may hold anything: not multiplied at all.
    for (int first = 0; first < segment.num_tokens; first += kPageTokens) {
      const int count = std::min(kPageTokens, segment.num_tokens - first);
      const HalfElements values{segment.page_values[first / kPageTokens], head_dim_};
      MultiplyFloats(values, count, head_dim_, task_.num_rows, rows.From(0, first), output);
    }
  }

  void AddBlock(const Segment& segment, ConstRows rows, Rows output) {
    if (task_.values->layout.has_scales) {
      ExpandScales(*task_.values, segment.values, scratch_.scales);
      ScaleRows(rows, scratch_.scales, task_.num_rows, kBlockTokens, weights(kBlockTokens));
      rows = {scratch_.weights, kBlockTokens};
    }
    MultiplyPart(*task_.values, segment.values, rows, output);
  }

#if KVATTEND_AVX3_DL
  void ScoreQuads(const Segment& segment, Rows scores) {
    MultiplyByExponents(segment);
    const PackedRows packed = PackedWeights(scratch_, head_dim_);
    PackRows(queries(), scratch_.multipliers,
             QueryUnitLimit(*task_.keys, scratch_.scales, task_.factor), task_.num_rows, packed);
    MultiplyQuadPart(*task_.keys, segment.keys, next_, scratch_, task_.num_rows, packed,
                     StoreScores{scores, packed.unit, scratch_.scales, task_.factor});
  }

  void AddQuads(const Segment& segment, ConstRows rows, Rows output) {
    ExpandScales(*task_.values, segment.values, scratch_.scales);
    const PackedRows packed = PackedWeights(scratch_, kBlockTokens);
    // 15 bits of the block's largest probability are enough: errors of tokens do not add up.
    constexpr float kNoLimit = std::numeric_limits<float>::max();
    PackRows(rows, scratch_.scales, kNoLimit, task_.num_rows, packed);
    MultiplyQuadPart(*task_.values, segment.values, next_, scratch_, task_.num_rows, packed,
                     AddOutputs{output, packed.unit});
  }
#endif

  const SplitTask& task_;
  AttentionScratch& scratch_;
  const int head_dim_;
  const uint8_t* next_ = nullptr;
  const uint8_t* next_end_ = nullptr;
};

void AttendSplit(const SplitTask& task, AttentionScratch& scratch, const SplitResult& result) {
  SplitKernel kernel(task, scratch);
  const int num_segments = static_cast<int>(task.segments.size());
  const int head_dim = task.keys->head_dim;
  for (int s = task.first_segment; s < num_segments; ++s) kernel.ScoreSegment(s);
  for (int r = 0; r < task.num_rows; ++r) {
    SoftmaxRow(scratch.scores + r * kSplitTokens, task.first_segment * kBlockTokens,
               num_segments * kBlockTokens, task.ranges[r].begin, task.ranges[r].end,
               &result.max[r], &result.sum[r]);
  }
  std::fill_n(result.output, task.num_rows * head_dim, 0.0f);
  for (int s = task.first_segment; s < num_segments; ++s) {
    kernel.AddValues(s, {result.output, head_dim});
  }
}

void ScoreSplit(const SplitTask& task, AttentionScratch& scratch, float* const* scores) {
  SplitKernel kernel(task, scratch);
  const int num_segments = static_cast<int>(task.segments.size());
  for (int s = task.first_segment; s < num_segments; ++s) kernel.ScoreSegment(s);
  for (int r = 0; r < task.num_rows; ++r) {
    const RowRange range = task.ranges[r];
    const float* const row = scratch.scores + r * kSplitTokens;
    std::copy(row + range.begin, row + std::max(range.begin, range.end), scores[r]);
  }
}

void MergeSplits(const SplitResult& first, int num_splits, int64_t row_stride,
                 int64_t output_stride, int head_dim, float* output, float* lse) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  const FloatTag d;
  float max = kLowest;
  for (int s = 0; s < num_splits; ++s) max = std::max(max, first.max[s * row_stride]);
  std::fill_n(output, head_dim, 0.0f);
  float sum = 0.0f;
  for (int s = 0; s < num_splits; ++s) {
    if (first.max[s * row_stride] == kLowest) continue;
    const float weight = std::exp2(first.max[s * row_stride] - max);
    sum += weight * first.sum[s * row_stride];
    const float* const part = first.output + s * output_stride;
    for (int c = 0; c < head_dim; c += static_cast<int>(hn::Lanes(d))) {
      hn::StoreU(hn::MulAdd(hn::Set(d, weight), hn::LoadU(d, part + c), hn::LoadU(d, output + c)),
                 d, output + c);
    }
  }
  const float inverse = sum > 0.0f ? 1.0f / sum : 0.0f;
  for (int c = 0; c < head_dim; ++c) output[c] *= inverse;
  constexpr float kLn2 = 0.693147181f;
  *lse = (max + std::log2(sum)) * kLn2;
}

const AttentionKernels* Kernels() {
  static const AttentionKernels kKernels{AttendSplit, ScoreSplit, MergeSplits, Softmax,
                                         hwy::TargetName(HWY_TARGET)};
  return &kKernels;
}

}  // namespace HWY_NAMESPACE
}  // namespace kvattend
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvattend {

HWY_EXPORT(Kernels);

const AttentionKernels& ChooseAttentionKernels() { return *HWY_DYNAMIC_DISPATCH(Kernels)(); }

}  // namespace kvattend
#endif  // HWY_ONCE
