// How many characters a second does one core tokenize? FLORES English, Hindi and Chinese together
// (NEUROGLOT_SHARED, default ../shared), a line a call, with the demo's and other BPE models.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <sstream>

#include "text/tokenizer.h"

namespace ng {
namespace {

Path shared() {
  const char* root = std::getenv("NEUROGLOT_SHARED");
  return root != nullptr ? root : "../shared";
}

std::vector<std::string> flores_lines() {
  std::vector<std::string> lines;
  for (const char* name : {"eng.devtest", "hin.devtest", "cmn_Hans.devtest"}) {
    std::istringstream file(read_file(shared() / "data/text/flores200" / name, size_t{1} << 20));
    for (std::string line; std::getline(file, line);) lines.push_back(line);
  }
  return lines;
}

// A directory, or a SentencePiece model alone.
Tokenizer open(const Path& path) {
  if (std::filesystem::is_directory(path)) return Tokenizer::open(path);
  const Path folder =
      std::filesystem::temp_directory_path() / ("tokenizer_benchmark." + path.stem().string());
  std::filesystem::create_directories(folder);
  const auto replace = std::filesystem::copy_options::overwrite_existing;
  std::filesystem::copy_file(path, folder / "sentencepiece.bpe.model", replace);
  Tokenizer tokenizer = Tokenizer::open(folder);
  std::filesystem::remove_all(folder);
  return tokenizer;
}

void encode(benchmark::State& state, const Path& path, Dialect dialect) {
  const Tokenizer tokenizer = open(path);
  const std::vector<std::string> lines = flores_lines();
  int64_t characters = 0, bytes = 0, ids = 0;
  for (const std::string& line : lines) {
    bytes += std::ssize(line);
    for (const char c : line) characters += (c & 0xC0) != 0x80;
    ids += std::ssize(tokenizer.encode_content(line, {dialect}));
  }
  for (auto _ : state) {
    for (const std::string& line : lines) {
      benchmark::DoNotOptimize(tokenizer.encode_content(line, {dialect}));
    }
  }
  const auto rate = [](int64_t amount) {
    return benchmark::Counter(static_cast<double>(amount),
                              benchmark::Counter::kIsIterationInvariantRate);
  };
  state.counters["characters/s"] = rate(characters);
  state.counters["bytes/s"] = rate(bytes);
  state.counters["ids/s"] = rate(ids);
}

}  // namespace
}  // namespace ng

int main(int argc, char** argv) {
  using namespace ng;
  const std::pair<const char*, Path> models[] = {
      {"demo", "models/demo"},
      {"fixture", shared() / "data/vectors/test_sentencepiece_bpe.model"},
      {"barthez", shared() / "data/tokenizers/barthez-sentencepiece.bpe.model"},
      {"bpe32k", shared() / "data/tokenizers/bpe32k-en-hi-te-spiece.model"}};
  for (const auto& [name, path] : models) {
    for (const Dialect dialect : {Dialect::hf, Dialect::sentencepiece}) {
      const std::string title =
          std::string("encode/") + name + (dialect == Dialect::hf ? "/hf" : "/sentencepiece");
      benchmark::RegisterBenchmark(title.c_str(), [path = path, dialect](benchmark::State& state) {
        encode(state, path, dialect);
      });
    }
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
