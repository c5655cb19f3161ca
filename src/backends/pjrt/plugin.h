// How is a PJRT plugin loaded, and how are its functions called?
#pragma once

#include <memory>
#include <string>

#include "backends/pjrt/abi.h"

namespace ng::pjrt {

class Plugin;

// An object of the plugin's, destroyed with its handle: before the Plugin goes.
struct Release {
  const Plugin* plugin = nullptr;
  const Function<ObjectArgs>* destroy = nullptr;
  void operator()(void* object) const noexcept;
};
using Handle = std::unique_ptr<void, Release>;

// A loaded plugin. It is never unloaded, for plugins own threads, and initialised once a process.
// Every failure is a Device error that names the library, the function and the plugin's message.
class Plugin {
 public:
  explicit Plugin(const std::string& library);
  Plugin(const Plugin&) = delete;
  Plugin& operator=(const Plugin&) = delete;

  // Gives args, and what args points at by stamp(), the sizes that the plugin wants.
  template <class Args>
  void call(const Function<Args>& function, Args& args) const {
    stamp(args);
    check_failure(function.name, invoke(function.slot, &args));
  }
  // False where the plugin lacks the function or does not implement it.
  template <class Args>
  bool call_if_there(const Function<Args>& function, Args& args) const {
    stamp(args);
    return find(function.slot) != nullptr &&
           check_failure(function.name, invoke(function.slot, &args), true);
  }
  template <class Struct>
  void stamp(Struct& in_args) const {
    in_args.head.struct_size = size_in<Struct>(minor_);
  }

  // `object` is what `maker` gave; null is a failure.
  Handle own(const Function<ObjectArgs>& destroy, void* object, const char* maker) const;
  // Until the event is there; destroys it. Null is no event.
  void wait(void* event) const;
  [[noreturn]] void fail(const std::string& message) const;

  bool is_neuron() const { return neuron_; }
  std::string description() const;  // "PJRT 0.104, StableHLO 1.16.2"

 private:
  friend struct Release;
  using Pointer = void* (*)(void*);

  void load(const std::string& library);
  void check_functions() const;
  void initialize() const;
  void read_attributes();
  Pointer find(int slot) const;
  void* invoke(int slot, void* args) const { return find(slot)(args); }
  // True for no error; false for UNIMPLEMENTED, if `optional`. Frees the error.
  bool check_failure(const char* function, void* error, bool optional = false) const;
  void free_error(void* error) const noexcept;

  std::string library_;
  bool neuron_ = false;
  const char* api_ = nullptr;
  int minor_ = kNewestMinor;  // whose sizes the plugin is sent
  int own_minor_ = 0;         // what it says itself
  std::string stablehlo_;     // the version that it knows, if it says so
};

}  // namespace ng::pjrt
