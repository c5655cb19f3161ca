// JSON from strangers: nlohmann's parser behind bounds on size and depth and without duplicate
// keys.
#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace ng {

using Json = nlohmann::json;  // objects keep their keys sorted

struct JsonLimits {
  size_t bytes = size_t{16} << 20;
  int depth = 32;
};

// Parses `text`; `what` names the source in errors (User): syntax with its byte, size, depth, a key
// that stands twice, invalid UTF-8.
Json parse_json(std::string_view text, std::string_view what, const JsonLimits& limits = {});

// Typed access with clear errors. An absent (or null) key gives `fallback`; a wrong type is User.
int64_t json_int(const Json& object, const char* key, int64_t fallback, std::string_view what);
double json_number(const Json& object, const char* key, double fallback, std::string_view what);
bool json_bool(const Json& object, const char* key, bool fallback, std::string_view what);
std::string json_string(const Json& object, const char* key, std::string_view fallback,
                        std::string_view what);

}  // namespace ng
