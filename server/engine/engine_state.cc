#include "server/engine/engine_state.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/codec/block_layout.h"
#include "server/base/error.h"

namespace kvattend {
namespace {

// A device that faulted, or memory that others use, may be there again by then.
constexpr absl::Duration kDeviceRetry = absl::Seconds(1);

}  // namespace

EngineState::EngineState(const EngineOptions& engine_options, Backend* engine_backend,
                         EngineMetrics* engine_metrics, Clock* engine_clock)
    : options(engine_options),
      backend(engine_backend),
      metrics(engine_metrics),
      clock(engine_clock),
      pool(engine_backend->arena_bytes()) {}

MemoryUse EngineState::memory_use() const {
  return {.kv_bytes = static_cast<int64_t>(pool.used_bytes()),
          .dense_bytes = dense_bytes,
          .capacity_bytes = static_cast<int64_t>(pool.capacity_bytes()),
          .num_sessions = sessions.size()};
}

absl::StatusOr<Session*> EngineState::FindSession(absl::string_view id, absl::string_view shard) {
  Session* session = sessions.Find(id);
  if (session == nullptr) {
    return Error(absl::StatusCode::kNotFound, "SESSION_NOT_FOUND",
                 absl::StrCat("there is no session sessions/", id))
        .Session(id);
  }
  const std::string& expected = session->config().shard;
  if (!shard.empty() && shard != expected) {
    return Error(absl::StatusCode::kFailedPrecondition, "WRONG_SHARD",
                 absl::StrCat("sessions/", id, " is of shard \"", expected, "\", the call of \"",
                              shard, "\""))
        .With("shard", expected)
        .Session(id);
  }
  return session;
}

absl::StatusOr<UnitSizes> EngineState::GetUnitSizes(const LayerShape& shape) const {
  const UnitSizes sizes = {backend->BlockBytes(shape), backend->PageBytes(shape)};
  if (std::max(sizes.block_bytes, sizes.page_bytes) > kSlabBytes) {
    return Error(absl::StatusCode::kInvalidArgument, "SHAPE_TOO_LARGE",
                 absl::StrCat("a block of 64 tokens and a page of 16 may take ", kSlabBytes,
                              " bytes each; with ", shape.num_kv_heads,
                              " KV heads and this codec they take ", sizes.block_bytes, " and ",
                              sizes.page_bytes))
        .Field("model_shape.num_kv_heads");
  }
  return sizes;
}

absl::StatusOr<std::vector<UnitList>> EngineState::AllocateUnits(
    absl::Span<const BlockPool::Demand> demands) {
  absl::StatusOr<std::vector<UnitList>> units = pool.Allocate(demands);
  if (!units.ok()) metrics->Rejected(RejectReason::kArenaFull);
  return units;
}

void EngineState::CountCompressed(const LayerShape& shape, size_t block_bytes,
                                  int64_t num_blocks) const {
  if (num_blocks == 0) return;
  const auto dense_block_bytes =
      static_cast<int64_t>(DenseHeadBytes(shape.codec.head_dim)) * shape.num_kv_heads;
  metrics->Compressed(CodecName(shape.codec), num_blocks * dense_block_bytes,
                      num_blocks * static_cast<int64_t>(block_bytes));
}

absl::Status EngineState::UseBackend(EngineOp op, absl::string_view codec,
                                     absl::FunctionRef<absl::Status(Backend&)> work) const {
  const absl::Time start = clock->Now();
  const absl::Status status = work(*backend);
  metrics->KernelTime(op, codec, clock->Now() - start);
  return FromBackend(status);
}

absl::Status FromBackend(const absl::Status& status) {
  if (!GetErrorDetails(status).reason.empty()) return status;
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
      return Error(status.code(), "DEVICE_FAULT", status.message()).RetryAfter(kDeviceRetry);
    case absl::StatusCode::kResourceExhausted:
      return Error(status.code(), "OUT_OF_MEMORY", status.message()).RetryAfter(kDeviceRetry);
    case absl::StatusCode::kUnimplemented:
      return Error(status.code(), "UNSUPPORTED_BY_DEVICE", status.message());
    default:
      return status;
  }
}

void CodecLabel::Add(const CodecSpec& codec) {
  if (!codec_.has_value()) codec_ = codec;
  if (*codec_ != codec) mixed_ = true;
}

absl::string_view CodecLabel::name() const { return mixed_ ? "mixed" : CodecName(*codec_); }

}  // namespace kvattend
