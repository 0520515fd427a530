#include "kernels/cuda/upload_buffer.h"

#include <bit>

#include "kernels/base/status_macros.h"

namespace kvattend::cuda {

absl::Status UploadBuffer::Reserve(size_t size_bytes) {
  used_bytes_ = 0;
  if (size_bytes <= host_.size_bytes()) return absl::OkStatus();
  // Powers of two, so that this happens seldom.
  const size_t new_size = std::bit_ceil(std::max(size_bytes, size_t{1} << 20));
  KVATTEND_ASSIGN_OR_RETURN(host_, PinnedBuffer::Create(new_size));
  KVATTEND_ASSIGN_OR_RETURN(device_, DeviceBuffer::Create(new_size));
  return absl::OkStatus();
}

}  // namespace kvattend::cuda
