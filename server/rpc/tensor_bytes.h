// The bytes of a tensor where gRPC put them: in pieces that end anywhere.
#ifndef KVATTEND_SERVER_RPC_TENSOR_BYTES_H_
#define KVATTEND_SERVER_RPC_TENSOR_BYTES_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/strings/string_view.h"
#include "kvattend/v1/types.pb.h"

namespace kvattend {

// Borrows the pieces.
class TensorBytes {
 public:
  TensorBytes() = default;
  explicit TensorBytes(absl::string_view whole) { Add(whole); }

  void Add(absl::string_view piece) {
    pieces_.push_back(piece);
    size_ += piece.size();
  }
  size_t size() const { return size_; }

 private:
  friend class TensorReader;
  std::vector<absl::string_view> pieces_;
  size_t size_ = 0;
};

// Converts a tensor's elements from its first to its last. Borrows the bytes. Not thread-safe.
class TensorReader {
 public:
  // `dtype` is one that ElementBytes accepts.
  TensorReader(const TensorBytes& bytes, v1::DataType dtype) : bytes_(bytes), dtype_(dtype) {}

  // Rounds the next `count` elements, which there must be, to float16. The index, of these, of the
  // first one that is not finite then; what follows it is not written.
  std::optional<int64_t> ReadHalves(int64_t count, uint16_t* halves);
  // As ReadHalves, to float32, exactly.
  std::optional<int64_t> ReadFloats(int64_t count, float* floats);

 private:
  template <typename T, typename Convert>
  std::optional<int64_t> Read(int64_t count, T* destination, Convert convert);
  // Moves `num_bytes` on, copying them.
  void Take(size_t num_bytes, char* destination);

  const TensorBytes& bytes_;
  const v1::DataType dtype_;
  // Of the next byte.
  size_t piece_ = 0;
  size_t offset_ = 0;
};

}  // namespace kvattend

#endif  // KVATTEND_SERVER_RPC_TENSOR_BYTES_H_
