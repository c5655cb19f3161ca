// How do tests load the emulated libnrt, make it fail, and see what it holds?
#pragma once

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <test_paths.h>
#include <cstdlib>
#include <string>

namespace ng {

// Sets a variable of the environment, for as long as it lives.
class Environment {
 public:
  Environment(const char* name, const std::string& value) : name_(name) {
    ::setenv(name, value.c_str(), 1);
  }
  ~Environment() { ::unsetenv(name_); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  const char* name_;
};

// The library that open_neuron() loads too: one for the process.
class EmulatedNrt {
 public:
  EmulatedNrt() : library_(::dlopen(NG_EMULATED_NRT, RTLD_NOW | RTLD_LOCAL)) {
    if (library_ == nullptr) ADD_FAILURE() << ::dlerror();
    call("emulated_nrt_reset");
  }
  template <class F>
  F function(const char* name) const {
    void* found = ::dlsym(library_, name);
    EXPECT_NE(found, nullptr) << name;
    return reinterpret_cast<F>(found);
  }
  void reset() const { call("emulated_nrt_reset"); }
  uint64_t live() const { return call("emulated_nrt_live"); }
  uint64_t misuse() const { return call("emulated_nrt_misuse"); }

 private:
  uint64_t call(const char* name) const { return function<uint64_t (*)()>(name)(); }
  void* library_;
};

}  // namespace ng
