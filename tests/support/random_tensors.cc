#include "tests/support/random_tensors.h"

#include <cmath>
#include <numbers>

#include "kernels/base/half.h"

namespace kvattend::testing {
namespace {

// A tensor of `generate()`, rounded to float16; saturating, so that all values are finite.
template <typename Generate>
std::vector<uint16_t> Fill(size_t size, Generate generate) {
  std::vector<uint16_t> tensor(size);
  for (uint16_t& x : tensor) x = FloatToHalfSaturating(static_cast<float>(generate()));
  return tensor;
}

}  // namespace

uint64_t RandomStream::Next() {
  // The constants are SplitMix64's.
  uint64_t z = (state_ += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

double RandomStream::Uniform() { return static_cast<double>(Next() >> 11) * 0x1p-53; }

int64_t RandomStream::Integer(int64_t low, int64_t high) {
  return low + static_cast<int64_t>(Next() % static_cast<uint64_t>(high - low + 1));
}

double RandomStream::Gaussian() {
  // Box and Muller's; 1 - u is never 0.
  const double radius = std::sqrt(-2.0 * std::log(1.0 - Uniform()));
  return radius * std::cos(2.0 * std::numbers::pi * Uniform());
}

std::vector<uint16_t> GaussianTensor(uint64_t seed, size_t size, double deviation) {
  RandomStream random(seed);
  return Fill(size, [&] { return deviation * random.Gaussian(); });
}

std::vector<uint16_t> HeavyTailedTensor(uint64_t seed, size_t size) {
  RandomStream random(seed);
  return Fill(size, [&] {
    const double gaussian = random.Gaussian();
    return gaussian * std::exp2(-24.0 + 36.0 * random.Uniform());
  });
}

std::vector<uint16_t> SubnormalTensor(uint64_t seed, size_t size) {
  RandomStream random(seed);
  std::vector<uint16_t> tensor(size);
  for (uint16_t& x : tensor) {
    const uint64_t bits = random.Next();
    // A sign, a magnitude below 2^10, and every fourth one a zero.
    x = static_cast<uint16_t>((bits & 0x8000) | (bits >> 62 == 0 ? 0 : (bits >> 16) & 0x3ff));
  }
  return tensor;
}

std::vector<uint16_t> RandomPatternTensor(uint64_t seed, size_t size) {
  RandomStream random(seed);
  std::vector<uint16_t> tensor(size);
  for (uint16_t& x : tensor) {
    do {
      x = static_cast<uint16_t>(random.Next());
    } while (!IsFiniteHalf(x));
  }
  return tensor;
}

std::vector<uint16_t> TiedTensor(uint64_t seed, size_t size) {
  RandomStream random(seed);
  return Fill(size, [&] {
    const double sign = random.Next() & 1 ? -0.5 : 0.5;
    return sign * static_cast<double>(random.Integer(0, 2));
  });
}

std::vector<uint16_t> ConstantTensor(size_t size, float value) {
  return std::vector<uint16_t>(size, FloatToHalfSaturating(value));
}

std::vector<uint16_t> OutlierChannelTensor(uint64_t seed, size_t size, int num_channels,
                                           int num_outliers, double factor) {
  RandomStream random(seed);
  const int stride = num_channels / num_outliers;
  size_t index = 0;
  return Fill(size, [&] {
    const int channel = static_cast<int>(index++ % static_cast<size_t>(num_channels));
    const bool outlier = channel % stride == 0 && channel / stride < num_outliers;
    return random.Gaussian() * (outlier ? factor : 1.0);
  });
}

std::vector<float> ToFloats(const std::vector<uint16_t>& halves) {
  std::vector<float> floats(halves.size());
  for (size_t i = 0; i < halves.size(); ++i) floats[i] = HalfToFloat(halves[i]);
  return floats;
}

}  // namespace kvattend::testing
