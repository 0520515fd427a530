#include "server/store/session.h"

#include <utility>

namespace kvattend {

Session::Session(SessionConfig config, const CodecSpec& codec, const UnitSizes& unit_sizes)
    : config_(std::move(config)),
      codec_(codec),
      unit_sizes_(unit_sizes),
      layers_(static_cast<size_t>(config_.shape.num_layers)) {}

int64_t Session::dense_token_bytes() const {
  return int64_t{2} * config_.shape.num_kv_heads * config_.shape.head_dim *
         static_cast<int64_t>(sizeof(uint16_t));
}

int64_t Session::dense_bytes() const {
  int64_t num_tokens = 0;
  for (const LayerCache& layer : layers_) num_tokens += layer.length();
  return num_tokens * dense_token_bytes();
}

SessionInfo Session::Info() const {
  SessionInfo info = {.id = config_.id,
                      .shape = config_.shape,
                      .codec = codec_,
                      .recent_window = config_.recent_window,
                      .revision = revision_,
                      .dense_bytes = dense_bytes(),
                      .shard = config_.shard,
                      .create_time = config_.create_time};
  info.layer_lengths.reserve(layers_.size());
  for (const LayerCache& layer : layers_) {
    info.layer_lengths.push_back(layer.length());
    info.stored_bytes += static_cast<int64_t>(layer.blocks().size() * unit_sizes_.block_bytes +
                                              layer.pages().size() * unit_sizes_.page_bytes);
  }
  return info;
}

void Session::SetCodec(const CodecSpec& codec, const UnitSizes& unit_sizes) {
  codec_ = codec;
  unit_sizes_ = unit_sizes;
}

std::unique_ptr<Session> Session::Fork(SessionConfig config) const {
  auto fork = std::make_unique<Session>(std::move(config), codec_, unit_sizes_);
  for (size_t i = 0; i < layers_.size(); ++i) fork->layers_[i] = layers_[i].Fork();
  return fork;
}

}  // namespace kvattend
