#include "server/rpc/tensor_request.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "google/protobuf/wire_format_lite.h"

namespace kvattend {
namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;
using google::protobuf::io::CodedOutputStream;

// The slices one after the other.
class SliceStream final : public google::protobuf::io::ZeroCopyInputStream {
 public:
  explicit SliceStream(const std::vector<grpc::Slice>& slices) : slices_(slices) {}

  bool Next(const void** data, int* size) override {
    while (next_ < slices_.size() && offset_ == slices_[next_].size()) {
      ++next_;
      offset_ = 0;
    }
    if (next_ == slices_.size()) return false;
    *data = slices_[next_].begin() + offset_;
    *size = static_cast<int>(slices_[next_].size() - offset_);
    offset_ = slices_[next_].size();
    count_ += *size;
    return true;
  }

  // At most what the last Next gave.
  void BackUp(int count) override {
    offset_ -= count;
    count_ -= count;
  }

  bool Skip(int count) override {
    const void* data = nullptr;
    int size = 0;
    while (count > 0 && Next(&data, &size)) {
      if (size > count) {
        BackUp(size - count);
        size = count;
      }
      count -= size;
    }
    return count == 0;
  }

  int64_t ByteCount() const override { return count_; }

 private:
  const std::vector<grpc::Slice>& slices_;
  size_t next_ = 0;
  size_t offset_ = 0;
  int64_t count_ = 0;
};

// Points `tensor` to the field's bytes. Of a field that comes twice the last one counts.
bool ReadTensor(CodedInputStream* input, TensorBytes* tensor) {
  *tensor = TensorBytes();
  uint32_t remaining = 0;
  if (!input->ReadVarint32(&remaining)) return false;
  while (remaining > 0) {
    const void* data = nullptr;
    int size = 0;
    if (!input->GetDirectBufferPointer(&data, &size)) return false;
    const int piece = static_cast<int>(std::min(static_cast<uint32_t>(size), remaining));
    tensor->Add(absl::string_view(static_cast<const char*>(data), piece));
    if (!input->Skip(piece)) return false;
    remaining -= piece;
  }
  return true;
}

}  // namespace

bool ParseTensorRequest(const std::vector<grpc::Slice>& slices,
                        absl::Span<const TensorField> tensors, google::protobuf::Message* message) {
  // What is not a tensor.
  std::string rest;
  {
    SliceStream stream(slices);
    CodedInputStream input(&stream);
    google::protobuf::io::StringOutputStream rest_stream(&rest);
    CodedOutputStream output(&rest_stream);
    while (const uint32_t tag = input.ReadTag()) {
      const auto* tensor =
          std::find_if(tensors.begin(), tensors.end(), [tag](const TensorField& field) {
            return tag ==
                   WireFormatLite::MakeTag(field.number, WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
          });
      const bool read = tensor != tensors.end() ? ReadTensor(&input, tensor->bytes)
                                                : WireFormatLite::SkipField(&input, tag, &output);
      if (!read) return false;
    }
    // A tag of 0 is malformed, not the end.
    if (!input.ConsumedEntireMessage()) return false;
  }
  return message->ParseFromString(rest);
}

}  // namespace kvattend
