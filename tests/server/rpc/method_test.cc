#include "server/rpc/method.h"

#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "google/protobuf/descriptor.h"
#include "gtest/gtest.h"
#include "kvattend/v1/attention_service.pb.h"
#include "kvattend/v1/codec_service.pb.h"
#include "kvattend/v1/server_service.pb.h"
#include "kvattend/v1/session_service.pb.h"

namespace kvattend {
namespace {

TEST(MethodTest, NamesAreThoseOfTheProto) {
  std::set<std::string> expected;
  for (const auto* file :
       {v1::AppendRequest::descriptor()->file(), v1::CompressRequest::descriptor()->file(),
        v1::GetServerInfoRequest::descriptor()->file(),
        v1::CreateSessionRequest::descriptor()->file()}) {
    const auto* service = file->service(0);
    for (int i = 0; i < service->method_count(); ++i) {
      expected.insert(absl::StrCat(service->full_name(), "/", service->method(i)->name()));
    }
  }
  std::set<std::string> names;
  for (int i = 0; i < kNumMethods; ++i) names.emplace(MethodName(static_cast<Method>(i)));
  EXPECT_EQ(names, expected);
}

}  // namespace
}  // namespace kvattend
