// The server's messages as JSON, for --format=json: field names as in proto, whole numbers as
// numbers.
#ifndef KVATTEND_CLIENT_CLI_JSON_H_
#define KVATTEND_CLIENT_CLI_JSON_H_

#include <nlohmann/json.hpp>
#include <ostream>

#include "kvattend/v1/server_service.pb.h"
#include "kvattend/v1/session_service.pb.h"
#include "kvattend/v1/types.pb.h"

namespace kvattend::cli {

// Keeps the order in which members are added.
using Json = nlohmann::ordered_json;

Json ToJson(const v1::Codec& codec);
Json ToJson(const v1::Session& session);
Json ToJson(const v1::GetServerInfoResponse& info);

// Indented, with a newline at the end.
void PrintJson(const Json& json, std::ostream& out);

}  // namespace kvattend::cli

#endif  // KVATTEND_CLIENT_CLI_JSON_H_
