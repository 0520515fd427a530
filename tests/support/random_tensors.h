// Seeded tensors for tests: float16 patterns, every value finite.
//
// The same arguments give the same tensor: the standard library's distributions, which differ from
// one library to the next, are not used. Thread-safe: pure functions.
#ifndef KVATTEND_TESTS_SUPPORT_RANDOM_TENSORS_H_
#define KVATTEND_TESTS_SUPPORT_RANDOM_TENSORS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace kvattend::testing {

// A stream of random numbers (SplitMix64).
class RandomStream {
 public:
  explicit RandomStream(uint64_t seed) : state_(seed) {}

  uint64_t Next();
  // Uniform in [0, 1).
  double Uniform();
  // Uniform in [low, high], both included.
  int64_t Integer(int64_t low, int64_t high);
  // Mean 0, variance 1.
  double Gaussian();

 private:
  uint64_t state_;
};

// Mean 0 and the given standard deviation.
std::vector<uint16_t> GaussianTensor(uint64_t seed, size_t size, double deviation = 1.0);

// Gaussian times 2^u, u uniform in [-24, 12]: from subnormals to thousands side by side.
std::vector<uint16_t> HeavyTailedTensor(uint64_t seed, size_t size);

// Random signs and subnormal magnitudes, zeros and negative zeros among them.
std::vector<uint16_t> SubnormalTensor(uint64_t seed, size_t size);

// Random finite bit patterns: every exponent alike.
std::vector<uint16_t> RandomPatternTensor(uint64_t seed, size_t size);

// Few distinct magnitudes (0, 0.5 and 1, with random signs): ties everywhere.
std::vector<uint16_t> TiedTensor(uint64_t seed, size_t size);

// `size` times `value`, rounded to float16.
std::vector<uint16_t> ConstantTensor(size_t size, float value);

// Gaussian [size / num_channels, num_channels] whose channels 0, stride, 2 * stride, ...
// (num_outliers of them, stride = num_channels / num_outliers) are `factor` times larger, as in the
// keys of trained models.
std::vector<uint16_t> OutlierChannelTensor(uint64_t seed, size_t size, int num_channels,
                                           int num_outliers, double factor);

// The float32 values of a tensor.
std::vector<float> ToFloats(const std::vector<uint16_t>& halves);

}  // namespace kvattend::testing

#endif  // KVATTEND_TESTS_SUPPORT_RANDOM_TENSORS_H_
