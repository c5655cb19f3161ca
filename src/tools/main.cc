// The door of the command line: what was thrown becomes one line and an exit code.
#include <cstdio>
#include <filesystem>
#include <new>

#include "base/error.h"
#include "tools/options.h"

int main(int argc, char** argv) {
  try {
    return ng::run_command_line(argc, argv);
  } catch (const ng::Error& error) {
    fmt::print(stderr, "neuroglot: {}\n", error.what());
    return error.exit_code();
  } catch (const std::filesystem::filesystem_error& error) {
    const std::string name = ng::shown(error.path1().string());
    fmt::print(stderr, "neuroglot: {}: cannot be used: {}\n", name, error.code().message());
    return 1;
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "neuroglot: there is not enough memory for this request\n");
    return 1;
  } catch (const std::exception& error) {
    fmt::print(stderr, "neuroglot: internal error: {}\n", error.what());
    return 70;
  }
}
