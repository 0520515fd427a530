#include "server/rpc/session_codec.h"

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/codec/codec_spec.h"
#include "server/rpc/names.h"
#include "tests/server/rpc/expect_error.h"

namespace kvattend {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::CreateSessionRequest GoodCreate() {
  v1::CreateSessionRequest request;
  request.set_session_id("chat-17");
  request.mutable_model_shape()->set_num_layers(2);
  request.mutable_model_shape()->set_num_query_heads(32);
  request.mutable_model_shape()->set_num_kv_heads(8);
  request.mutable_model_shape()->set_head_dim(128);
  return request;
}

TEST(ParseCreateSessionTest, ReadsAllFields) {
  v1::CreateSessionRequest request = GoodCreate();
  request.set_recent_window(0);
  request.mutable_codec()->set_preset("lean");
  const auto params = ParseCreateSession(request, Limits(), "shard-1");
  ASSERT_TRUE(params.ok()) << params.status();
  EXPECT_EQ(params->id, "chat-17");
  EXPECT_EQ(params->shape, (ModelShape{2, 32, 8, 128}));
  EXPECT_EQ(params->codec, *CodecFromPreset("lean", 128));
  EXPECT_EQ(params->recent_window, 0);
  EXPECT_EQ(params->shard, "shard-1");
}

TEST(ParseCreateSessionTest, DefaultsAreBalancedAndAWindowOf64) {
  v1::CreateSessionRequest request = GoodCreate();
  request.clear_session_id();
  const auto params = ParseCreateSession(request, Limits(), "");
  ASSERT_TRUE(params.ok()) << params.status();
  EXPECT_EQ(params->id, "");
  EXPECT_EQ(params->codec, *CodecFromPreset("balanced", 128));
  EXPECT_EQ(params->recent_window, 64);
}

struct BadCreate {
  const char* name;
  std::function<void(v1::CreateSessionRequest&)> break_it;
  const char* reason;
  const char* field;
};

TEST(ParseCreateSessionTest, RefusesWhatIsOutOfRange) {
  constexpr int kHuge = std::numeric_limits<int>::max();
  const std::vector<BadCreate> cases = {
      {"bad id", [](auto& r) { r.set_session_id("a/b"); }, "INVALID_SESSION_NAME", "session_id"},
      {"no shape", [](auto& r) { r.clear_model_shape(); }, "VALUE_OUT_OF_RANGE",
       "model_shape.num_layers"},
      {"no layers", [](auto& r) { r.mutable_model_shape()->set_num_layers(0); },
       "VALUE_OUT_OF_RANGE", "model_shape.num_layers"},
      {"too many layers", [](auto& r) { r.mutable_model_shape()->set_num_layers(1025); },
       "VALUE_OUT_OF_RANGE", "model_shape.num_layers"},
      {"negative heads", [](auto& r) { r.mutable_model_shape()->set_num_kv_heads(-1); },
       "VALUE_OUT_OF_RANGE", "model_shape.num_kv_heads"},
      {"too many heads", [](auto& r) { r.mutable_model_shape()->set_num_kv_heads(257); },
       "VALUE_OUT_OF_RANGE", "model_shape.num_kv_heads"},
      {"no query heads", [](auto& r) { r.mutable_model_shape()->set_num_query_heads(0); },
       "VALUE_OUT_OF_RANGE", "model_shape.num_query_heads"},
      {"too many query heads", [](auto& r) { r.mutable_model_shape()->set_num_query_heads(kHuge); },
       "VALUE_OUT_OF_RANGE", "model_shape.num_query_heads"},
      {"query heads no multiple", [](auto& r) { r.mutable_model_shape()->set_num_query_heads(12); },
       "INVALID_MODEL_SHAPE", "model_shape.num_query_heads"},
      {"odd head_dim", [](auto& r) { r.mutable_model_shape()->set_head_dim(96); },
       "INVALID_MODEL_SHAPE", "model_shape.head_dim"},
      {"negative window", [](auto& r) { r.set_recent_window(-1); }, "VALUE_OUT_OF_RANGE",
       "recent_window"},
      {"huge window", [](auto& r) { r.set_recent_window((1 << 20) + 1); }, "VALUE_OUT_OF_RANGE",
       "recent_window"},
      {"unknown preset", [](auto& r) { r.mutable_codec()->set_preset("tiny"); }, "INVALID_CODEC",
       "codec.preset"},
      {"custom is no preset", [](auto& r) { r.mutable_codec()->set_preset("custom"); },
       "INVALID_CODEC", "codec.preset"},
  };
  for (const BadCreate& bad : cases) {
    SCOPED_TRACE(bad.name);
    v1::CreateSessionRequest request = GoodCreate();
    bad.break_it(request);
    ExpectInvalid(ParseCreateSession(request, Limits(), "").status(), bad.reason, bad.field);
  }
}

v1::Codec MakeCodec(int key_kept, int key_bits, int value_kept, int value_bits) {
  v1::Codec codec;
  codec.mutable_keys()->set_kept(key_kept);
  codec.mutable_keys()->set_bits(key_bits);
  codec.mutable_values()->set_kept(value_kept);
  codec.mutable_values()->set_bits(value_bits);
  return codec;
}

TEST(ParseCodecTest, TakesEveryPresetAtEveryHeadDim) {
  for (const int head_dim : {64, 128, 256}) {
    for (const CodecPreset& preset : CodecPresets()) {
      v1::Codec proto;
      proto.set_preset(preset.name);
      const auto codec = ParseCodec(proto, head_dim);
      ASSERT_TRUE(codec.ok()) << codec.status();
      EXPECT_EQ(*codec, *CodecFromPreset(preset.name, head_dim));
      EXPECT_EQ(ToProto(*codec).preset(), preset.name);
    }
  }
}

TEST(ParseCodecTest, TakesFormatsAndNamesThem) {
  const auto custom = ParseCodec(MakeCodec(17, 8, 64, 2), 64);
  ASSERT_TRUE(custom.ok()) << custom.status();
  EXPECT_EQ(*custom, (CodecSpec{64, {17, 8}, {64, 2}}));
  EXPECT_EQ(ToProto(*custom).preset(), "custom");
  EXPECT_EQ(ToProto(*custom).keys().kept(), 17);
  EXPECT_EQ(ToProto(*custom).values().bits(), 2);
  EXPECT_EQ(ToProto(*ParseCodec(MakeCodec(38, 4, 128, 2), 128)).preset(), "balanced");
}

TEST(ParseCodecTest, TakesItsOwnAnswersBack) {
  for (const v1::Codec& codec : {MakeCodec(38, 4, 128, 2), MakeCodec(17, 8, 64, 2)}) {
    const CodecSpec spec = *ParseCodec(codec, 128);
    const auto again = ParseCodec(ToProto(spec), 128);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(*again, spec);
  }
}

TEST(ParseCodecTest, RefusesHalfACodecAndContradictions) {
  v1::Codec both = MakeCodec(38, 4, 128, 2);
  for (const char* preset : {"lean", "custom", "nonsense"}) {
    both.set_preset(preset);
    ExpectInvalid(ParseCodec(both, 128).status(), "INVALID_CODEC", "codec.preset");
  }
  v1::Codec only_keys = MakeCodec(38, 4, 128, 2);
  only_keys.clear_values();
  ExpectInvalid(ParseCodec(only_keys, 128).status(), "INVALID_CODEC", "codec.values");
  v1::Codec only_values = MakeCodec(38, 4, 128, 2);
  only_values.clear_keys();
  ExpectInvalid(ParseCodec(only_values, 128).status(), "INVALID_CODEC", "codec.keys");
}

TEST(ParseCodecTest, NamesTheFieldAndWhatItHolds) {
  for (const int kept : {0, -1, 129}) {
    const absl::Status keys = ParseCodec(MakeCodec(kept, 4, 128, 2), 128).status();
    ExpectInvalid(keys, "INVALID_CODEC", "codec.keys.kept");
    EXPECT_THAT(std::string(keys.message()), HasSubstr(std::to_string(kept)));
    ExpectInvalid(ParseCodec(MakeCodec(38, 4, kept, 2), 128).status(), "INVALID_CODEC",
                  "codec.values.kept");
  }
  for (const int bits : {0, 1, 3, 5, 6, 7, 9, 15, 17, 32, -2}) {
    ExpectInvalid(ParseCodec(MakeCodec(38, bits, 128, 2), 128).status(), "INVALID_CODEC",
                  "codec.keys.bits");
    ExpectInvalid(ParseCodec(MakeCodec(38, 4, 128, bits), 128).status(), "INVALID_CODEC",
                  "codec.values.bits");
  }
}

TEST(ParseCodecTest, DoesNotEchoHugePresets) {
  v1::Codec codec;
  codec.set_preset(std::string(1 << 20, 'p'));
  const absl::Status status = ParseCodec(codec, 128).status();
  ExpectInvalid(status, "INVALID_CODEC", "codec.preset");
  EXPECT_LT(status.message().size(), 500u);
}

TEST(ParseListSessionsTest, PageSizes) {
  v1::ListSessionsRequest request;
  EXPECT_EQ(ParseListSessions(request)->page_size, 100);
  request.set_page_size(1);
  EXPECT_EQ(ParseListSessions(request)->page_size, 1);
  request.set_page_size(5000);
  EXPECT_EQ(ParseListSessions(request)->page_size, 1000);
  request.set_page_size(-1);
  ExpectInvalid(ParseListSessions(request).status(), "VALUE_OUT_OF_RANGE", "page_size");
}

TEST(ParseListSessionsTest, PageTokens) {
  v1::ListSessionsRequest request;
  request.set_page_token(MakePageToken("b"));
  EXPECT_EQ(ParseListSessions(request)->after, "b");
  request.set_page_token("b");
  ExpectInvalid(ParseListSessions(request).status(), "INVALID_PAGE_TOKEN", "page_token");
}

TEST(ParseCompressSessionTest, ReadsAndChecks) {
  v1::CompressSessionRequest request;
  request.set_name("sessions/a");
  auto params = ParseCompressSession(request, Limits());
  ASSERT_TRUE(params.ok());
  EXPECT_EQ(params->id, "a");
  EXPECT_FALSE(params->keep_exact.has_value());
  EXPECT_FALSE(params->has_codec);
  request.set_keep_exact(0);
  request.mutable_codec();
  params = ParseCompressSession(request, Limits());
  ASSERT_TRUE(params.ok());
  EXPECT_EQ(params->keep_exact, 0);
  EXPECT_TRUE(params->has_codec);
  request.set_keep_exact(-1);
  ExpectInvalid(ParseCompressSession(request, Limits()).status(), "VALUE_OUT_OF_RANGE",
                "keep_exact");
  request.set_keep_exact((1 << 20) + 1);
  ExpectInvalid(ParseCompressSession(request, Limits()).status(), "VALUE_OUT_OF_RANGE",
                "keep_exact");
  request.set_name("a");
  ExpectInvalid(ParseCompressSession(request, Limits()).status(), "INVALID_SESSION_NAME", "name");
}

TEST(ParseForkSessionTest, ReadsAndChecks) {
  v1::ForkSessionRequest request;
  request.set_name("sessions/a");
  EXPECT_EQ(ParseForkSession(request)->new_id, "");
  request.set_session_id("b");
  EXPECT_EQ(ParseForkSession(request)->source, "a");
  EXPECT_EQ(ParseForkSession(request)->new_id, "b");
  request.set_session_id("-b");
  ExpectInvalid(ParseForkSession(request).status(), "INVALID_SESSION_NAME", "session_id");
  request.clear_name();
  ExpectInvalid(ParseForkSession(request).status(), "INVALID_SESSION_NAME", "name");
}

TEST(ParseTruncateSessionTest, ReadsAndChecks) {
  v1::TruncateSessionRequest request;
  request.set_name("sessions/a");
  request.set_length(64);
  EXPECT_EQ(ParseTruncateSession(request)->id, "a");
  EXPECT_EQ(ParseTruncateSession(request)->length, 64);
  request.set_length(-1);
  ExpectInvalid(ParseTruncateSession(request).status(), "VALUE_OUT_OF_RANGE", "length");
  request.set_name("");
  ExpectInvalid(ParseTruncateSession(request).status(), "INVALID_SESSION_NAME", "name");
}

TEST(SessionToProtoTest, WritesAllFields) {
  SessionInfo info;
  info.id = "a";
  info.shape = {2, 32, 8, 128};
  info.codec = *CodecFromPreset("fine", 128);
  info.recent_window = 17;
  info.revision = 3;
  info.layer_lengths = {70, 65};
  info.stored_bytes = 1000;
  info.dense_bytes = 5000;
  info.shard = "s";
  info.create_time = absl::FromUnixMillis(1500);
  const v1::Session proto = ToProto(info);
  EXPECT_EQ(proto.name(), "sessions/a");
  EXPECT_EQ(proto.model_shape().num_layers(), 2);
  EXPECT_EQ(proto.model_shape().num_query_heads(), 32);
  EXPECT_EQ(proto.model_shape().num_kv_heads(), 8);
  EXPECT_EQ(proto.model_shape().head_dim(), 128);
  EXPECT_EQ(proto.codec().preset(), "fine");
  EXPECT_EQ(proto.recent_window(), 17);
  EXPECT_EQ(proto.revision(), 3);
  EXPECT_EQ(proto.length(), 65);
  EXPECT_THAT(proto.layer_lengths(), ElementsAre(70, 65));
  EXPECT_EQ(proto.stored_bytes(), 1000);
  EXPECT_EQ(proto.dense_bytes(), 5000);
  EXPECT_EQ(proto.shard(), "s");
  EXPECT_EQ(proto.create_time().seconds(), 1);
  EXPECT_EQ(proto.create_time().nanos(), 500000000);
}

}  // namespace
}  // namespace kvattend
