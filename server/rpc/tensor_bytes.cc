#include "server/rpc/tensor_bytes.h"

#include <algorithm>
#include <cstring>

#include "kernels/base/check.h"
#include "server/rpc/tensor_data.h"

namespace kvattend {

template <typename T, typename Convert>
std::optional<int64_t> TensorReader::Read(int64_t count, T* destination, Convert convert) {
  const size_t element_bytes = ElementBytes(dtype_);
  const size_t end_of_elements = count * element_bytes;
  std::optional<int64_t> first_bad;
  for (size_t done = 0; done < end_of_elements;) {
    KVATTEND_CHECK(piece_ < bytes_.pieces_.size());
    absl::string_view run = bytes_.pieces_[piece_].substr(offset_, end_of_elements - done);
    run = run.substr(0, run.size() / element_bytes * element_bytes);
    char straddling[sizeof(float)];
    if (run.empty()) {
      // The next element lies in several pieces, or the piece is at its end.
      Take(element_bytes, straddling);
      run = absl::string_view(straddling, element_bytes);
    } else {
      offset_ += run.size();
    }
    const int64_t index = static_cast<int64_t>(done / element_bytes);
    if (!first_bad.has_value()) {
      if (const auto bad = convert(dtype_, run, destination + index); bad.has_value()) {
        first_bad = index + *bad;
      }
    }
    done += run.size();
  }
  return first_bad;
}

void TensorReader::Take(size_t num_bytes, char* destination) {
  while (num_bytes > 0) {
    KVATTEND_CHECK(piece_ < bytes_.pieces_.size());
    const absl::string_view part = bytes_.pieces_[piece_].substr(offset_, num_bytes);
    std::memcpy(destination, part.data(), part.size());
    destination += part.size();
    num_bytes -= part.size();
    offset_ += part.size();
    if (offset_ == bytes_.pieces_[piece_].size()) {
      ++piece_;
      offset_ = 0;
    }
  }
}

std::optional<int64_t> TensorReader::ReadHalves(int64_t count, uint16_t* halves) {
  return Read(count, halves, CopyToHalf);
}

std::optional<int64_t> TensorReader::ReadFloats(int64_t count, float* floats) {
  return Read(count, floats, CopyToFloat);
}

}  // namespace kvattend
