#include "base/json.h"

#include <set>
#include <vector>

#include "base/error.h"

namespace ng {
namespace {

[[noreturn]] void wrong_type(const char* key, const char* wanted, const Json& value,
                             std::string_view what) {
  fail("{}: \"{}\" must be {}, not {}", what, key, wanted,
       shown(value.dump(-1, ' ', false, Json::error_handler_t::replace)));
}

const Json* find(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

// Walks the text once before it is parsed: nesting, and keys that stand twice. (The parser's own
// callback could do it, but takes quadratic time on large objects.) Syntax errors are left to the
// parser.
class Bounds : public nlohmann::json_sax<Json> {
 public:
  Bounds(std::string_view what, int depth) : what_(what), depth_(depth) {}

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(int64_t) override { return true; }
  bool number_unsigned(uint64_t) override { return true; }
  bool number_float(double, const std::string&) override { return true; }
  bool string(std::string&) override { return true; }
  bool binary(Json::binary_t&) override { return true; }
  bool start_object(size_t) override { return open(); }
  bool end_object() override { return close(); }
  bool start_array(size_t) override { return open(); }
  bool end_array() override { return close(); }
  bool parse_error(size_t, const std::string&, const Json::exception&) override { return false; }
  bool key(std::string& key) override {
    check(keys_.back().insert(key).second, "{}: the key \"{}\" stands twice", what_, shown(key));
    return true;
  }

 private:
  bool open() {
    check(static_cast<int>(keys_.size()) < depth_, "{}: JSON nests deeper than {}", what_, depth_);
    keys_.emplace_back();
    return true;
  }
  bool close() {
    keys_.pop_back();
    return true;
  }

  std::string_view what_;
  int depth_;
  std::vector<std::set<std::string>> keys_;  // of every object that is open
};

}  // namespace

Json parse_json(std::string_view text, std::string_view what, const JsonLimits& limits) {
  check(text.size() <= limits.bytes, "{}: {} bytes of JSON, at most {} are read", what, text.size(),
        limits.bytes);
  Bounds bounds(what, limits.depth);
  Json::sax_parse(text.begin(), text.end(), &bounds);
  try {
    return Json::parse(text.begin(), text.end());
  } catch (const Json::exception& error) {
    fail("{}: is not valid JSON: {}", what, shown(error.what(), 200));
  }
}

int64_t json_int(const Json& object, const char* key, int64_t fallback, std::string_view what) {
  const Json* value = find(object, key);
  if (value == nullptr) return fallback;
  const bool fits = value->is_number_integer() &&
                    !(value->is_number_unsigned() && value->get<uint64_t>() > uint64_t{INT64_MAX});
  if (!fits) wrong_type(key, "an integer", *value, what);
  return value->get<int64_t>();
}

double json_number(const Json& object, const char* key, double fallback, std::string_view what) {
  const Json* value = find(object, key);
  if (value == nullptr) return fallback;
  if (!value->is_number()) wrong_type(key, "a number", *value, what);
  return value->get<double>();
}

bool json_bool(const Json& object, const char* key, bool fallback, std::string_view what) {
  const Json* value = find(object, key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) wrong_type(key, "true or false", *value, what);
  return value->get<bool>();
}

std::string json_string(const Json& object, const char* key, std::string_view fallback,
                        std::string_view what) {
  const Json* value = find(object, key);
  if (value == nullptr) return std::string(fallback);
  if (!value->is_string()) wrong_type(key, "a string", *value, what);
  return value->get<std::string>();
}

}  // namespace ng
