// What goes wrong, and whose fault it is: the one exception type of neuroglot.
//
// Thrown anywhere, caught at three doors: main, a request's own result, a worker thread's boundary.
// A message names the thing, the value and the fix:
//   weights: 'model.encoder.layers.0.fc1.weight' is [8192,1024], config.json says [4096,1024]
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace ng {

class Error : public std::runtime_error {
 public:
  enum class Kind {
    User,          // bad input or usage: exit 1
    Device,        // a device, its driver or its compiler failed: exit 2
    Verification,  // a difference was found: exit 3
    Internal,      // our bug: exit 70
  };

  Error(Kind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}

  Kind kind() const { return kind_; }
  int exit_code() const;

 private:
  Kind kind_;
};

// Throws Error{User}: the input, a file or an option is wrong.
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(Error::Kind::User, fmt::format(format, std::forward<Args>(args)...));
}

// fail() unless `condition`. The arguments are evaluated either way: keep them cheap.
template <class... Args>
void check(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) fail(format, std::forward<Args>(args)...);
}

// Throws Error{Internal} with the source location. Used by NG_CHECK.
[[noreturn]] void internal_error(const char* file, int line, const char* condition,
                                 const std::string& message);

// What of a hostile name or value may stand in a message: at most about `limit` bytes, cut between
// characters; valid UTF-8; control characters and bytes that are no UTF-8 as \xNN.
std::string shown(std::string_view value, size_t limit = 80);

}  // namespace ng

// A broken promise of our own code; on in release too. NG_CHECK(cond, "format", args…)
#define NG_CHECK(condition, ...) \
  (static_cast<bool>(condition)  \
       ? static_cast<void>(0)    \
       : ::ng::internal_error(__FILE__, __LINE__, #condition, ::fmt::format(__VA_ARGS__)))
