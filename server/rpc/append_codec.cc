#include "server/rpc/append_codec.h"

#include <limits>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "server/rpc/grpc_status.h"
#include "server/rpc/names.h"
#include "server/rpc/tensor_data.h"
#include "server/rpc/validation.h"

namespace kvattend {
namespace {

constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();
constexpr int64_t kMaxInt64 = std::numeric_limits<int64_t>::max();

// Of one item's keys, or values; the fields have been checked.
std::optional<int64_t> AppendElements(const v1::AppendItem& item) {
  return CheckedProduct(
      {item.layers_size(), item.num_tokens(), item.num_kv_heads(), item.head_dim()});
}

absl::StatusOr<AppendEntry> ParseAppendItem(const v1::AppendItem& item, int index,
                                            const Limits& limits) {
  AppendEntry entry;
  KVATTEND_ASSIGN_OR_RETURN(entry.session, ParseSessionName(item.session(), {"session", index}));
  KVATTEND_RETURN_IF_ERROR(
      CheckRange({"expected_position", index}, item.expected_position(), 0, kMaxInt64 - kMaxInt32));
  KVATTEND_RETURN_IF_ERROR(CheckRange({"layers", index}, item.layers_size(), 1, limits.max_layers));
  KVATTEND_RETURN_IF_ERROR(CheckRange({"num_tokens", index}, item.num_tokens(), 1, kMaxInt32));
  KVATTEND_RETURN_IF_ERROR(CheckRange({"num_kv_heads", index}, item.num_kv_heads(), 1, kMaxInt32));
  KVATTEND_RETURN_IF_ERROR(CheckRange({"head_dim", index}, item.head_dim(), 1, kMaxInt32));
  entry.revision = item.revision();
  entry.expected_position = item.expected_position();
  entry.layers.assign(item.layers().begin(), item.layers().end());
  entry.num_tokens = item.num_tokens();
  entry.num_kv_heads = item.num_kv_heads();
  entry.head_dim = item.head_dim();
  return entry;
}

absl::Status CheckLayersDistinct(const std::vector<AppendEntry>& entries) {
  absl::flat_hash_set<std::pair<absl::string_view, int>> seen;
  for (size_t i = 0; i < entries.size(); ++i) {
    for (const int layer : entries[i].layers) {
      if (!seen.emplace(entries[i].session, layer).second) {
        return InvalidField("DUPLICATE_LAYER", {"layers", static_cast<int>(i)},
                            absl::StrCat("expected each layer of a session once in a call, found ",
                                         layer, " again"));
      }
    }
  }
  return absl::OkStatus();
}

// Copies one role of an entry, [layers][num_tokens, num_kv_heads, head_dim].
absl::Status CopyAppendTensors(absl::string_view role, const AppendEntry& entry,
                               TensorReader* reader, uint16_t* halves) {
  const int64_t layer_elements = int64_t{entry.num_tokens} * entry.num_kv_heads * entry.head_dim;
  const auto num_layers = static_cast<int64_t>(entry.layers.size());
  const std::optional<int64_t> bad = reader->ReadHalves(num_layers * layer_elements, halves);
  if (!bad.has_value()) return absl::OkStatus();
  return NonFiniteInput(role, *bad % layer_elements, entry.num_kv_heads, entry.head_dim)
      .With("layer", entry.layers[*bad / layer_elements]);
}

}  // namespace

absl::StatusOr<AppendBatch> ParseAppend(const v1::AppendRequest& request,
                                        const AppendTensors& tensors, const Limits& limits,
                                        StagingAllocator allocate) {
  KVATTEND_RETURN_IF_ERROR(CheckNumItems(request.items_size(), limits.max_items_per_call));
  KVATTEND_ASSIGN_OR_RETURN(const int element_bytes, ElementBytes(request.dtype(), {"dtype"}));
  AppendBatch batch;
  batch.entries.reserve(request.items_size());
  ByteTotal total_bytes;
  for (int i = 0; i < request.items_size(); ++i) {
    const v1::AppendItem& item = request.items(i);
    KVATTEND_ASSIGN_OR_RETURN(AppendEntry entry, ParseAppendItem(item, i, limits));
    batch.entries.push_back(std::move(entry));
    total_bytes.Add(AppendElements(item), element_bytes);
  }
  KVATTEND_RETURN_IF_ERROR(CheckByteCount({"keys"}, total_bytes.value(), tensors.keys.size()));
  KVATTEND_RETURN_IF_ERROR(CheckByteCount({"values"}, total_bytes.value(), tensors.values.size()));
  KVATTEND_RETURN_IF_ERROR(CheckLayersDistinct(batch.entries));

  size_t staging_bytes = 0;
  for (const v1::AppendItem& item : request.items()) {
    staging_bytes += 2 * AlignStaging(*AppendElements(item) * sizeof(uint16_t));
  }
  KVATTEND_ASSIGN_OR_RETURN(batch.staging, allocate(staging_bytes));
  std::byte* next = batch.staging.get();
  TensorReader key_reader(tensors.keys, request.dtype());
  TensorReader value_reader(tensors.values, request.dtype());
  for (int i = 0; i < request.items_size(); ++i) {
    AppendEntry& entry = batch.entries[i];
    const size_t role_bytes = AlignStaging(*AppendElements(request.items(i)) * sizeof(uint16_t));
    auto* keys = reinterpret_cast<uint16_t*>(next);
    auto* values = reinterpret_cast<uint16_t*>(next + role_bytes);
    next += 2 * role_bytes;
    entry.keys = keys;
    entry.values = values;
    entry.input_status = CopyAppendTensors("keys", entry, &key_reader, keys);
    entry.input_status.Update(CopyAppendTensors("values", entry, &value_reader, values));
  }
  return batch;
}

v1::AppendResponse ToProto(const std::vector<AppendResult>& results) {
  v1::AppendResponse response;
  response.mutable_results()->Reserve(static_cast<int>(results.size()));
  for (const AppendResult& result : results) {
    v1::AppendResult* proto = response.add_results();
    *proto->mutable_status() = ToRpcStatus(result.status);
    if (!result.status.ok()) continue;
    proto->set_replayed(result.replayed);
    proto->set_position(result.position);
    proto->set_revision(result.revision);
  }
  return response;
}

}  // namespace kvattend
