#include "client/cli/reference_input.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "client/cli/files.h"
#include "client/cpp/tensor.h"

namespace kvattend::cli {

absl::StatusOr<ReferenceInput> ReadReferenceInput(const std::string& directory) {
  constexpr AttentionShape kShape = ReferenceInput::kShape;
  constexpr int64_t kQueryBytes =
      kShape.heads * kShape.head_dim * static_cast<int64_t>(sizeof(uint16_t));
  ReferenceInput input;
  const struct {
    const char* name;
    int64_t size_bytes;
    std::string* data;
    std::vector<float>* floats;
  } tensors[] = {
      {"seed42_k.f16", kQueryBytes * kShape.tokens, &input.keys, &input.key_floats},
      {"seed42_v.f16", kQueryBytes * kShape.tokens, &input.values, &input.value_floats},
      {"seed42_q.f16", kQueryBytes, &input.queries, &input.query_floats},
  };
  for (const auto& tensor : tensors) {
    auto data = ReadTensorFile(absl::StrCat(directory, "/", tensor.name), tensor.size_bytes);
    if (!data.ok()) return data.status();
    *tensor.data = *std::move(data);
    *tensor.floats =
        client::ToFloats(v1::DATA_TYPE_FLOAT16, client::AsBytes(absl::string_view(*tensor.data)));
  }
  const std::string path = absl::StrCat(directory, "/figures.json");
  const auto text = ReadFile(path);
  if (!text.ok()) return text.status();
  input.figures = Json::parse(*text, /*cb=*/nullptr, /*allow_exceptions=*/false);
  const bool well_formed =
      input.figures.is_object() && std::all_of(input.figures.begin(), input.figures.end(),
                                               [](const Json& group) { return group.is_object(); });
  if (!well_formed) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is not an object of groups of figures"));
  }
  return input;
}

}  // namespace kvattend::cli
