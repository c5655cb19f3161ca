// The door of the command line: what was thrown becomes one line and an exit code.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <new>
#include <system_error>

#include "base/error.h"
#include "tools/options.h"

namespace {

// Descriptors 0 to 2 that are closed must not become a model's file. In their place comes one that
// fails in the same way: it cannot be read as input, nor written as output.
void fill_standard_descriptors() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (::fcntl(fd, F_GETFD) != -1) continue;
    ::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);  // the lowest that is free: fd
  }
}

// The message, which may be lost, and the exit code, which stands.
int say(const char* message, int code) {
  std::fputs(fmt::format("neuroglot: {}\n", message).c_str(), stderr);
  return code;
}

int run(int argc, char** argv) {
  try {
    const int code = ng::run_command_line(argc, argv);
    const bool written = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
    ng::check(written, "standard output cannot be written: {}", std::strerror(errno));
    return code;
  } catch (const ng::Error& error) {
    return say(error.what(), error.exit_code());
  } catch (const std::bad_alloc&) {
    return say("there is not enough memory for this request", 1);
  } catch (const std::filesystem::filesystem_error& error) {
    const std::string name = ng::shown(error.path1().string());
    return say(fmt::format("{}: cannot be used: {}", name, error.code().message()).c_str(), 1);
  } catch (const std::system_error& error) {  // of fmt::print, if standard output failed
    if (std::ferror(stdout) == 0) {
      return say(fmt::format("internal error: {}", error.what()).c_str(), 70);
    }
    const std::string reason = error.code().message();
    return say(fmt::format("standard output cannot be written: {}", reason).c_str(), 1);
  } catch (const std::exception& error) {
    return say(fmt::format("internal error: {}", error.what()).c_str(), 70);
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_DFL);  // whoever started us may ignore it: no reader, no more work
  fill_standard_descriptors();
  return run(argc, argv);
}
