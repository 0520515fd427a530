// Streams of fields of up to 64 bits, least significant bit first, without a branch a field.
//
// Not thread-safe. Memory is borrowed and may have any alignment.
#ifndef KVATTEND_KERNELS_CPU_BIT_STREAM_H_
#define KVATTEND_KERNELS_CPU_BIT_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace kvattend {

// Writes whole words of 8 bytes only, and up to 8 bytes past the last bit: what is behind must be
// writable. A stream that ends on a word is complete without a flush.
class BitWriter {
 public:
  explicit BitWriter(uint8_t* out) : out_(out) {}

  // The lower `count` bits, 0 to 64; those above must be 0.
  void Append(uint64_t bits, int count) {
    pending_ |= bits << fill_;
    std::memcpy(out_, &pending_, sizeof(pending_));
    // In two steps, since shifting by 64 is undefined.
    const uint64_t carry = (bits >> 1) >> (63 - fill_);
    const bool is_full = fill_ + count >= 64;
    pending_ = is_full ? carry : pending_;
    out_ += is_full ? sizeof(pending_) : 0;
    fill_ = (fill_ + count) % 64;
  }

 private:
  uint8_t* out_;
  uint64_t pending_ = 0;
  // Bits of pending_ in use, below 64.
  int fill_ = 0;
};

// Reads up to 8 bytes past the last bit.
class BitReader {
 public:
  explicit BitReader(const uint8_t* in) : in_(in) {}

  // Takes `count` bits, 0 to 57, or 64 if all fields are whole bytes. Returns them with others
  // above.
  uint64_t Take(int count) {
    uint64_t word;
    std::memcpy(&word, in_ + position_ / 8, sizeof(word));
    word >>= position_ % 8;
    position_ += static_cast<size_t>(count);
    return word;
  }

 private:
  const uint8_t* in_;
  size_t position_ = 0;
};

}  // namespace kvattend

#endif  // KVATTEND_KERNELS_CPU_BIT_STREAM_H_
