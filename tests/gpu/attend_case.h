// A case of attention on the GPU with random contents, and its float64 reference: shared by the
// test and the benchmark of kernels/cuda/attend.h.
//
// Thread-compatible. CUDA errors end the program: this is a tool of tests.
#ifndef KVATTEND_TESTS_GPU_ATTEND_CASE_H_
#define KVATTEND_TESTS_GPU_ATTEND_CASE_H_

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/codec/codec_spec.h"
#include "kernels/cuda/attend.h"
#include "kernels/cuda/attend_plan.h"

namespace kvattend::testing {

// Ends the program with the place and the name of the error.
void CheckCuda(cudaError_t error, const char* file, int line);
#define KVATTEND_CHECK_CUDA(call) ::kvattend::testing::CheckCuda(call, __FILE__, __LINE__)

struct AttendSession {
  int num_blocks = 0;
  int num_exact = 0;
  int num_query_tokens = 1;
  int start_position = 0;

  int length() const { return num_blocks * kBlockTokens + num_exact; }
};

struct AttendCaseSpec {
  CodecSpec codec;
  int num_kv_heads = 1;
  int group = 1;
  std::vector<AttendSession> sessions;
  // Blocks with contents of their own; the others repeat them, at other addresses.
  int distinct_blocks = 8;
  // Standard deviation of the queries; larger ones make sharper distributions.
  double query_deviation = 1.0;
  // Copies of all blocks, to be used in turns so that no cache holds them.
  int rotations = 1;
  uint64_t seed = 1;
};

// One row of an answer.
struct AttendRow {
  std::vector<double> output;
  double lse = 0.0;
};

class AttendCase {
 public:
  explicit AttendCase(const AttendCaseSpec& spec);
  ~AttendCase();
  AttendCase(const AttendCase&) = delete;
  AttendCase& operator=(const AttendCase&) = delete;

  // Bytes of compressed blocks that a launch reads.
  int64_t block_bytes() const { return block_bytes_; }
  // Asynchronous.
  cudaError_t Launch(int rotation, cudaStream_t stream);
  // Fills outputs with NaN.
  void Poison();
  AttendRow Result(int session, int token, int head) const;
  // All outputs and LSEs, as bit patterns.
  std::vector<uint32_t> ResultBits() const;
  AttendRow Reference(int session, int token, int head) const;

  // The largest error of the rows (session, token, head), every `stride`-th of all: of outputs
  // relative to the row's norm, and of the LSE. Names the worst row.
  double WorstError(int stride, std::string* where) const;

 private:
  void MakeContents();
  void Upload();

  AttendCaseSpec spec_;
  // Decoded keys and values [distinct][kv head][64][head_dim], and exact ones likewise.
  std::vector<float> keys_, values_, exact_keys_, exact_values_;
  std::vector<uint8_t> block_units_, page_units_;
  std::vector<float> queries_;
  std::vector<int64_t> query_offsets_, row_offsets_;
  int64_t block_bytes_ = 0;
  cuda::AttendLaunch launch_;
  // For each rotation.
  std::vector<cuda::AttendPlan> plans_;
  std::vector<const cuda::AttendItem*> items_;
  std::vector<const cuda::AttendTask*> tasks_;
  std::vector<void*> allocations_;
  float* outputs_ = nullptr;
  float* lses_ = nullptr;
  int64_t num_outputs_ = 0;
  int64_t num_rows_ = 0;
};

}  // namespace kvattend::testing

#endif  // KVATTEND_TESTS_GPU_ATTEND_CASE_H_
