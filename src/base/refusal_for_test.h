// What does a User error say? For tests.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "base/error.h"

namespace ng {

// The message with which `act` ends, "" if it ends well; anything but a User error fails the test.
inline std::string error_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Error::Kind::User) << error.what();
    return error.what();
  }
  return "";
}

// The same of what must not end well.
inline std::string refusal(const std::function<void()>& act) {
  const std::string message = error_of(act);
  if (message.empty()) ADD_FAILURE() << "was accepted";
  return message;
}

}  // namespace ng
