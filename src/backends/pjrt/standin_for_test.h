// The stand-in for a PJRT plugin (tests/standins/), loaded and put back between tests.
#pragma once

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <test_paths.h>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>

#include "base/error.h"
#include "standins/strict_pjrt.h"

namespace ng::testing {

inline constexpr const char* kNeuronVariable = "NEURON_INTERNAL_PJRT_C_API_VERSION";
inline const std::string kNeuronLike = NG_STANDIN_PJRT;

// A copy under a name that is not Neuron's; it has a Control of its own.
inline std::string plain_plugin() {
  static const std::string path = [] {
    const auto copy = std::filesystem::path(::testing::TempDir()) /
                      fmt::format("plain_pjrt_{}.so", static_cast<int>(::getpid()));
    std::filesystem::copy_file(kNeuronLike, copy,
                               std::filesystem::copy_options::overwrite_existing);
    return copy.string();
  }();
  return path;
}

inline standin::Control& control_of(const std::string& library) {
  void* handle = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) throw std::runtime_error(::dlerror());
  return *reinterpret_cast<standin::GetControl>(::dlsym(handle, "standin_control"))();
}

class PjrtStandin : public ::testing::Test {
 protected:
  PjrtStandin() { reset(); }
  ~PjrtStandin() override {
    expect_clean("at the end");
    reset();
  }
  // Nothing leaked, nothing was used after its end.
  void expect_clean(const std::string& when) {
    for (const standin::Control* one : {&control, &plain}) {
      EXPECT_EQ(one->live, 0) << when;
      EXPECT_EQ(one->misuse, 0) << when;
    }
  }
  void reset() {
    ::unsetenv(kNeuronVariable);
    control = plain = standin::Control();
  }

  standin::Control& control = control_of(kNeuronLike);
  standin::Control& plain = control_of(plain_plugin());
};

// The message of the Device error with which `act` ends.
inline std::string device_error(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Error::Kind::Device) << error.what();
    EXPECT_EQ(error.exit_code(), 2);
    return error.what();
  }
  ADD_FAILURE() << "it ended well";
  return "";
}

}  // namespace ng::testing
