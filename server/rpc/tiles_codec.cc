#include "server/rpc/tiles_codec.h"

#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "server/rpc/validation.h"

namespace kvattend {
namespace {

using mustafar::TileFormat;
using mustafar::TileRole;
using mustafar::Tiles;
using mustafar::TileSpec;

absl::StatusOr<TileFormat> ParseFormat(v1::TileFormat format, absl::string_view field) {
  switch (format) {
    case v1::TILE_FORMAT_FP16:
      return TileFormat::kFp16;
    case v1::TILE_FORMAT_INT2_TILE:
      return TileFormat::kInt2Tile;
    case v1::TILE_FORMAT_INT2_HEAD:
      return TileFormat::kInt2Head;
    default:
      return InvalidField(
          "VALUE_OUT_OF_RANGE", {field},
          absl::StrCat("expected FP16, INT2_TILE or INT2_HEAD, found ", static_cast<int>(format)));
  }
}

absl::StatusOr<TileRole> ParseRole(v1::TileRole role) {
  if (role == v1::TILE_ROLE_KEY) return TileRole::kKey;
  if (role == v1::TILE_ROLE_VALUE) return TileRole::kValue;
  return InvalidField("VALUE_OUT_OF_RANGE", {"tiles.role"},
                      absl::StrCat("expected KEY or VALUE, found ", static_cast<int>(role)));
}

v1::TileFormat ToProto(TileFormat format) {
  switch (format) {
    case TileFormat::kFp16:
      return v1::TILE_FORMAT_FP16;
    case TileFormat::kInt2Tile:
      return v1::TILE_FORMAT_INT2_TILE;
    case TileFormat::kInt2Head:
      return v1::TILE_FORMAT_INT2_HEAD;
  }
  return v1::TILE_FORMAT_UNSPECIFIED;
}

// `size_bytes` of a bytes field must be whole elements; how many is ValidateTiles's to say.
template <typename T>
absl::Status ParseArray(const std::string& bytes, absl::string_view field, std::vector<T>* array) {
  if (bytes.size() % sizeof(T) != 0) {
    return InvalidField(
        "BYTE_COUNT_MISMATCH", {field},
        absl::StrCat("expected a multiple of ", sizeof(T), " bytes, found ", bytes.size()));
  }
  array->resize(bytes.size() / sizeof(T));
  if (!bytes.empty()) std::memcpy(array->data(), bytes.data(), bytes.size());
  return absl::OkStatus();
}

template <typename T>
void SetArray(const std::vector<T>& array, std::string* bytes) {
  bytes->assign(reinterpret_cast<const char*>(array.data()), array.size() * sizeof(T));
}

}  // namespace

absl::StatusOr<TileSpec> ParseTileSpec(const v1::TileOptions& options, TileRole role,
                                       const v1::Tensor& tensor) {
  const std::string field = role == TileRole::kKey ? "keys.shape" : "values.shape";
  if (tensor.shape_size() != 3) {
    return InvalidField("SHAPE_MISMATCH", {field},
                        absl::StrCat("expected [batch, num_tokens, head_dim], found ",
                                     tensor.shape_size(), " dimensions"));
  }
  TileSpec spec;
  KVATTEND_ASSIGN_OR_RETURN(spec.format, ParseFormat(options.format(), "tiles.format"));
  spec.role = role;
  spec.batch = tensor.shape(0);
  spec.num_tokens = tensor.shape(1);
  spec.head_dim = tensor.shape(2);
  spec.num_heads = options.num_heads();
  if (const absl::Status status = ValidateTileSpec(spec); !status.ok()) {
    return InvalidField("SHAPE_MISMATCH", {field}, status.message());
  }
  return spec;
}

absl::StatusOr<Tiles> ParseTiles(const v1::Tiles& proto) {
  Tiles tiles;
  TileSpec& spec = tiles.spec;
  KVATTEND_ASSIGN_OR_RETURN(spec.format, ParseFormat(proto.format(), "tiles.format"));
  KVATTEND_ASSIGN_OR_RETURN(spec.role, ParseRole(proto.role()));
  spec.batch = proto.batch();
  spec.num_tokens = proto.num_tokens();
  spec.head_dim = proto.head_dim();
  spec.num_heads = proto.num_heads();
  if (const absl::Status status = ValidateTileSpec(spec); !status.ok()) {
    return InvalidField("SHAPE_MISMATCH", {"tiles"}, status.message());
  }
  KVATTEND_RETURN_IF_ERROR(ParseArray(proto.bitmaps(), "tiles.bitmaps", &tiles.bitmaps));
  KVATTEND_RETURN_IF_ERROR(ParseArray(proto.offsets(), "tiles.offsets", &tiles.offsets));
  KVATTEND_RETURN_IF_ERROR(ParseArray(proto.packed(), "tiles.packed", &tiles.packed));
  if (spec.format == TileFormat::kInt2Head) {
    KVATTEND_RETURN_IF_ERROR(ParseArray(proto.scales(), "tiles.scales", &tiles.head_scales));
  } else {
    KVATTEND_RETURN_IF_ERROR(ParseArray(proto.scales(), "tiles.scales", &tiles.scales));
  }
  KVATTEND_RETURN_IF_ERROR(ParseArray(proto.zeros(), "tiles.zeros", &tiles.zeros));
  if (const absl::Status status = ValidateTiles(tiles); !status.ok()) {
    return InvalidField("CORRUPT_BLOCK", {"tiles"}, status.message());
  }
  return tiles;
}

v1::Tiles ToProto(const Tiles& tiles) {
  const TileSpec& spec = tiles.spec;
  v1::Tiles proto;
  proto.set_format(ToProto(spec.format));
  proto.set_role(spec.role == TileRole::kKey ? v1::TILE_ROLE_KEY : v1::TILE_ROLE_VALUE);
  proto.set_batch(spec.batch);
  proto.set_num_tokens(spec.num_tokens);
  proto.set_head_dim(spec.head_dim);
  proto.set_num_heads(spec.num_heads);
  SetArray(tiles.bitmaps, proto.mutable_bitmaps());
  SetArray(tiles.offsets, proto.mutable_offsets());
  SetArray(tiles.packed, proto.mutable_packed());
  if (spec.format == TileFormat::kInt2Head) {
    SetArray(tiles.head_scales, proto.mutable_scales());
  } else {
    SetArray(tiles.scales, proto.mutable_scales());
  }
  SetArray(tiles.zeros, proto.mutable_zeros());
  proto.set_total_bytes(static_cast<int64_t>(tiles.total_bytes()));
  return proto;
}

}  // namespace kvattend
