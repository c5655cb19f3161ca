// Lines on stdin to ids on stdout and back, for scripts/check_tokenizer.py.
//   tokenize_lines MODEL_DIR|FILE (encode|special|sentencepiece|decode|show|spdecode) [pack FILE]
#include <cstdio>
#include <ctime>
#include <iostream>
#include <sstream>

#include "base/error.h"
#include "text/tokenizer.h"

namespace ng {
namespace {

std::string join(const std::vector<int32_t>& ids) { return fmt::format("{}", fmt::join(ids, " ")); }

std::vector<int32_t> numbers(const std::string& line) {
  std::istringstream in(line);
  std::vector<int32_t> ids;
  for (int32_t id; in >> id;) ids.push_back(id);
  return ids;
}

std::string answer(const Tokenizer& tokenizer, const std::string& mode, const std::string& line) {
  if (mode == "encode") return join(tokenizer.encode_content(line));
  if (mode == "special") return join(tokenizer.encode_content(line, {Dialect::hf, true}));
  if (mode == "sentencepiece")
    return join(tokenizer.encode_content(line, {Dialect::sentencepiece}));
  if (mode == "decode") return tokenizer.decode(numbers(line));
  if (mode == "show") return tokenizer.decode(numbers(line), {Dialect::hf, false});
  if (mode == "spdecode") return tokenizer.decode(numbers(line), {Dialect::sentencepiece});
  fail("unknown mode '{}'", mode);
}

// Of this thread's own work, whatever else the machine does.
double seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

int run(const Path& path, const std::string& mode) {
  const bool directory = std::filesystem::is_directory(path);
  const std::string bytes = directory ? "" : read_file(path, size_t{1} << 30);
  const double begin = seconds();
  const Tokenizer tokenizer = directory ? Tokenizer::open(path) : Tokenizer::parse(bytes);
  const double opened = seconds();
  if (mode == "pack") {
    std::cout << tokenizer.serialize();
    return 0;
  }
  std::vector<std::string> lines, out;
  for (std::string line; std::getline(std::cin, line);) lines.push_back(line);
  size_t bytes_in = 0;
  const double started = seconds();
  for (const std::string& line : lines) {
    out.push_back(answer(tokenizer, mode, line));
    bytes_in += line.size();
  }
  const double done = seconds();
  for (const std::string& line : out) std::cout << line << '\n';
  fmt::print(stderr, "open {:.4f} s, {} bytes in {:.4f} s\n", opened - begin, bytes_in,
             done - started);
  return 0;
}

}  // namespace
}  // namespace ng

int main(int argc, char** argv) {
  if (argc != 3) return 1;
  try {
    return ng::run(argv[1], argv[2]);
  } catch (const ng::Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return error.exit_code();
  }
}
