// Which modules does XLA judge? hlo_modules OUT_DIR SEED COUNT writes for COUNT random legal graphs
//   NAME.pb, NAME.neuron.pb         the module in each dialect
//   NAME.mlir                       its StableHLO
//   NAME.inputs.safetensors         a tensor for each parameter, named by its number, 4 digits
//   NAME.outputs.safetensors        what the interpreter gives for each output, named likewise
//   NAME.aliases                    a line "output parameter" for each state
#include <fmt/core.h>

#include <charconv>

#include "backends/xla/emit_hlo.h"
#include "backends/xla/emit_stablehlo.h"
#include "backends/xla/legal.h"
#include "backends/xla/module.h"
#include "backends/xla/random_legal_for_test.h"
#include "base/error.h"
#include "base/file.h"
#include "checkpoint/safetensors_for_test.h"

namespace {

using namespace ng;

uint64_t number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  check(error == std::errc() && end == text.data() + text.size(), "'{}' is no number", text);
  return value;
}

void put(const Path& path, std::string_view bytes) {
  FileWriter writer(path);
  writer.write(bytes);
  writer.close();
}

void write_module(const Path& stem, uint64_t seed) {
  const Graph graph = RandomLegal(seed).graph(4 + static_cast<int>(seed % 24));
  const std::map<std::string, Tensor> tensors = random_tensors(graph, seed);
  std::map<std::string, Tensor> inputs, outputs, results = results_of(graph, tensors);
  for (const Leaf& leaf : parameters(graph)) {
    inputs[fmt::format("{:04}", inputs.size())] = tensors.at(graph.nodes()[leaf.node].attrs.name);
  }
  for (const Named& output : graph.outputs) {
    outputs[fmt::format("{:04}", outputs.size())] = results.at(output.name);
  }
  const std::string hlo = emit_hlo(graph, HloDialect::xla);
  std::string aliases;
  for (const ModuleInterface::Alias& alias : read_interface(hlo, "module").aliases) {
    aliases += fmt::format("{} {}\n", alias.output, alias.parameter);
  }
  put(stem.string() + ".pb", hlo);
  put(stem.string() + ".neuron.pb", emit_hlo(graph, HloDialect::neuron));
  put(stem.string() + ".mlir", emit_stablehlo(graph));
  put(stem.string() + ".aliases", aliases);
  write_safetensors(stem.string() + ".inputs.safetensors", inputs);
  write_safetensors(stem.string() + ".outputs.safetensors", outputs);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    check(argc == 4, "usage: hlo_modules OUT_DIR SEED COUNT");
    const uint64_t seed = number(argv[2]), count = number(argv[3]);
    for (uint64_t i = 0; i < count; ++i) {
      write_module(Path(argv[1]) / fmt::format("module{:05}", i), seed + i);
    }
  } catch (const Error& error) {
    fmt::print(stderr, "hlo_modules: {}\n", error.what());
    return error.exit_code();
  }
  return 0;
}
