#include "tools/options.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <charconv>
#include <variant>

#include "base/error.h"
#include "compile/plan_buckets.h"
#include "tensor/ranks.h"
#include "translate/generate_request.h"

namespace ng {
namespace {

using Field = std::variant<bool Options::*, int64_t Options::*, std::string Options::*,
                           std::vector<std::string> Options::*>;

// `commands` names who takes the option; "*" is everybody who opens a model.
struct OptionRow {
  const char* flag;
  const char* value;
  Field field;
  const char* commands;
  const char* help;
  int64_t least = 0, most = INT64_MAX;
};

const OptionRow kOptions[] = {
    {"-o,--output", "PATH", &Options::output, "compile translate forward",
     "where the result goes (translate: standard output)"},
    {"--force", "", &Options::force, "compile", "replace an existing output directory"},
    {"--target", "cpu|reference|pjrt[:PLUGIN.so]|inf2|trn1|trn2", &Options::targets, "compile *",
     "what to compile for (else cpu), may be repeated; or which target of a bundle is meant; the "
     "reference interpreter is slow and readable; pjrt: XLA modules; inf2, trn1, trn2: AWS Neuron"},
    {"--target", "inf2|trn1|trn2", &Options::target, "analyze", "the Neuron device"},
    {"--device", "cpu|reference|pjrt:PLUGIN.so|neuron|emulated", &Options::device,
     "translate generate forward verify", "where to run (else the bundle's only target)"},
    {"--device", "pjrt:PLUGIN.so", &Options::device, "devices", "a plugin to ask, too"},
    {"--libnrt", "PATH", &Options::libnrt, "translate generate forward verify devices",
     "Neuron's runtime library (else $NEUROGLOT_LIBNRT, then the loader's libnrt.so.1)"},
    {"--neuronx-cc", "PATH", &Options::neuronx_cc, "compile",
     "Neuron: its compiler (else that of $PATH)"},
    {"--emit-only", "", &Options::emit_only, "compile",
     "Neuron: modules alone, and the commands that compile them elsewhere"},
    {"--jobs", "N", &Options::jobs, "compile", "Neuron: compilers at a time", 1, 256},
    {"--compiler-args", "WORDS", &Options::compiler_args, "compile",
     "Neuron: more words for the compiler"},
    {"--neffs", "DIR", &Options::neffs, "finish", "where the compiled modules are"},
    {"--batch", "N,N", &Options::batches, "compile analyze",
     "fixed shapes: sentences of the modules"},
    {"--beams", "N", &Options::beams, "compile analyze *",
     "fixed shapes: rows of a sentence in a step", 1, kMostBeams},
    {"--source-lengths", "N,N", &Options::source_lengths, "compile analyze *",
     "fixed shapes: source tokens of the encoders"},
    {"--target-length", "N", &Options::target_length, "compile analyze *",
     "fixed shapes: the longest max_length", 2, kMostTargetIds},
    {"--tp", "N", &Options::tp, "compile analyze *",
     "fixed shapes: devices that run a module together, each with its part of the weights", 1,
     kMostRanks},
    {"--topk", "device|host", &Options::topk, "compile analyze *",
     "fixed shapes: who finds the best of all scores"},
    {"--beam-caches", "history|reorder", &Options::beam_caches, "compile analyze *",
     "fixed shapes: rows read what their beam wrote where it lies, or caches are put in order"},
    {"--with-logits", "", &Options::with_logits, "compile analyze *",
     "fixed shapes: modules that give all scores, too, for forward and some generation settings"},
    {"--cpu-ops", "OP,OP", &Options::cpu_ops, "compile analyze",
     "fixed shapes: ops of docs/ops.md that run on the CPU, between the device's segments"},
    {"--min-subgraph-size", "N", &Options::min_subgraph_size, "compile analyze",
     "fixed shapes: ops of a segment, where modules are cut", 1},
    {"--max-subgraph-count", "N", &Options::max_subgraph_count, "compile analyze",
     "fixed shapes: segments of a module at most", 1},
    {"--dtype", "f32|bf16", &Options::dtype, "compile analyze *",
     "type of matrices; everything else is float32"},
    {"--threads", "N", &Options::threads, "compile replace-weights *",
     "threads; 0: the smaller of CPU affinity and cgroup quota", 0, 1024},
    {"--quiet", "", &Options::quiet, "compile finish replace-weights make-checkpoint *",
     "no progress, no warnings"},
    {"--batch", "N|auto", &Options::batch, "translate generate", "sentences that run together"},
    {"--warmup", "N", &Options::warmup, "translate generate forward",
     "runs before the measured ones", 0, 1000},
    {"--repeat", "N", &Options::repeat, "translate generate forward",
     "measured runs; given, the times of --stats are lists", 1, 1000},
    {"--stats", "FILE", &Options::stats, "translate generate forward verify",
     "write times, token counts and memory as JSON"},
    {"--from", "CODE", &Options::from, "translate verify", "source language, such as eng_Latn"},
    {"--to", "CODE", &Options::to, "translate verify", "target language, such as fra_Latn"},
    {"--beam", "N", &Options::beam, "translate",
     "beams; 1: greedy (else what generation_config.json says)", 1, kMostBeams},
    {"--n-best", "N", &Options::n_best, "translate",
     "as many lines of each, as `line-number ||| text ||| score`", 1, kMostBeams},
    {"--scores", "", &Options::scores, "translate", "put `score TAB` before each translation"},
    {"--max-source-tokens", "N", &Options::max_source_tokens, "translate",
     "longer lines are cut in pieces that are translated apart", 3, kMostSourceIds},
    {"--long", "cut|cpu|error", &Options::long_sources, "translate generate",
     "a source that no module takes is cut (ids: refused), runs on the CPU, or fails"},
    {"--split", "none", &Options::split, "translate",
     "none: a line is one segment. NLLB drops sentences from lines that hold several"},
    {"--jsonl", "", &Options::jsonl, "translate", "JSON Lines in and out"},
    {"--input", "FILE", &Options::input, "forward",
     "safetensors with input_ids, decoder_input_ids and perhaps attention_mask"},
    {"--reference", "MODEL_DIR", &Options::reference, "verify",
     "compare with the float32 graph over this checkpoint, too"},
    {"--as", "bf16", &Options::as, "verify",
     "no device: what rounding as Neuron's bf16 modules do it changes in translations"},
    {"--sentences", "N", &Options::sentences, "verify",
     "sentences to compare (with --text all, unless given); modules and --as are slow", 1, 1000},
    {"--json", "", &Options::json, "verify inspect analyze", "print the report as JSON"},
    {"--graph", "PHASE", &Options::graph, "inspect",
     "print a graph: encode, prefill, decode, logits or prepare"},
    {"--stage", "PASS", &Options::stage, "inspect", "stop after this pass"},
    {"--without", "PASS", &Options::without, "inspect", "leave this pass out"},
    {"--check", "", &Options::check, "inspect", "hash every byte of a bundle"},
    {"--lang", "CODE", &Options::lang, "tokenize detokenize", "language of the text"},
    {"--dialect", "hf|sentencepiece", &Options::dialect, "tokenize detokenize",
     "whose rules for blanks and unknown characters"},
    {"--special", "", &Options::special, "tokenize detokenize",
     "special tokens inside the text count as such; detokenize: keep them"},
    {"--lengths", "FILE", &Options::lengths, "plan-buckets",
     "tokens of each source, </s> and the language included: a number a line"},
    {"--text", "FILE", &Options::text, "plan-buckets verify",
     "sources themselves, one a line (verify: with --as)"},
    {"--model", "MODEL", &Options::model, "plan-buckets",
     "BUNDLE or MODEL_DIR whose tokenizer counts the tokens of --text"},
    {"--graphs", "N", &Options::graphs, "plan-buckets", "lengths at most", 1, kMostGraphs},
    {"--max", "N", &Options::max_source_tokens, "plan-buckets",
     "the longest length; longer sources are cut in pieces", kShortestSource, kMostSourceIds},
    {"--shape", "NAME", &Options::shape, "make-checkpoint",
     "whose sizes, such as nllb-200-distilled-600M; or tiny"},
    {"--format", "bin|safetensors", &Options::format, "make-checkpoint", "kind of weight files"},
    {"--dtype", "f32|f16|bf16", &Options::dtype, "make-checkpoint", "type of the weights"},
    {"--shards", "N", &Options::shards, "make-checkpoint", "weight files", 1, 1024},
    {"--seed", "S", &Options::seed, "make-checkpoint", "of the random weights"},
};

enum class Takes {
  checkpoint,
  bundle,
  bundle_and_checkpoint,
  model,
  model_and_files,
  output,
  action,
  neff,
  optional_model,
  nothing
};

struct CommandRow {
  const char* name;
  int (*run)(const Options&);
  Takes takes;
  bool opens_model;  // takes the options of "*"
  const char* help;
};

constexpr CommandRow kCommands[] = {
    {"compile", compile_command, Takes::checkpoint, false, "checkpoint directory → bundle"},
    {"finish", finish_command, Takes::bundle, false,
     "takes what compile --emit-only left to be compiled elsewhere"},
    {"replace-weights", replace_weights_command, Takes::bundle_and_checkpoint, false,
     "puts a fine-tune of the same shape in a bundle's place; nothing is recompiled"},
    {"translate", translate_command, Takes::model_and_files, true, "text → text, line by line"},
    {"generate", generate_command, Takes::model_and_files, true,
     "token ids → token ids, JSON Lines"},
    {"forward", forward_command, Takes::model, true, "token ids → hidden states and logits"},
    {"verify", verify_command, Takes::model, true, "prove a bundle against its reference"},
    {"inspect", inspect_command, Takes::model, true, "sizes, costs and graphs of a model"},
    {"analyze", analyze_command, Takes::checkpoint, false,
     "what a model will take on AWS Neuron: operators, memory, time"},
    {"plan-buckets", plan_buckets_command, Takes::nothing, false,
     "source lengths that pad real sources least"},
    {"tokenize", tokenize_command, Takes::model_and_files, true, "text → token ids, line by line"},
    {"detokenize", detokenize_command, Takes::model_and_files, true, "token ids → text"},
    {"languages", languages_command, Takes::optional_model, true, "languages and their codes"},
    {"devices", devices_command, Takes::nothing, false, "what a bundle could run on here"},
    {"neff", neff_command, Takes::neff, false, "what a compiled Neuron program says of itself"},
    {"cache", cache_command, Takes::action, false, "compiled MODEL_DIRs: list or clear"},
    {"make-checkpoint", make_checkpoint_command, Takes::output, false,
     "a random checkpoint of a known shape, for tests and benchmarks"},
};

constexpr const char* kEnvironment =
    "Environment:\n"
    "  NEUROGLOT_HOME  cache of compiled models (else $XDG_CACHE_HOME/neuroglot, "
    "~/.cache/neuroglot)\n"
    "  NEUROGLOT_LIBNRT  Neuron's runtime library, where --libnrt is not given\n"
    "  NEUROGLOT_ISA   kernels to use: generic, avx2 or avx512 (else the best there is)\n"
    "  NEUROGLOT_PJRT_FORMAT  what a PJRT plugin is given: hlo or mlir (else what it knows)\n"
    "Exit codes: 0 ok, 1 input or usage, 2 device, 3 verification found a difference, 70 our bug";

bool takes(const OptionRow& option, const CommandRow& command) {
  const std::string list = fmt::format(" {} ", option.commands);
  return list.find(fmt::format(" {} ", command.name)) != std::string::npos ||
         (command.opens_model && list.find(" * ") != std::string::npos);
}

// A decimal number as people write it: no hexadecimal or octal, nothing cut to a limit.
CLI::Validator whole_number(int64_t least, int64_t most) {
  const std::string wanted =
      most == INT64_MAX ? fmt::format("from {}", least) : fmt::format("from {} to {}", least, most);
  const auto problem = [=](const std::string& text) -> std::string {
    int64_t value = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    const bool number = error == std::errc() && stop == end && std::to_string(value) == text;
    if (number && value >= least && value <= most) return "";
    return fmt::format("{} is no whole number {}", shown(text), wanted);
  };
  return {problem, wanted};
}

void add_option(CLI::App& app, Options& options, const OptionRow& option) {
  if (const auto* flag = std::get_if<bool Options::*>(&option.field)) {
    app.add_flag(option.flag, options.**flag, option.help);
    return;
  }
  CLI::Option* added = nullptr;
  const auto* number = std::get_if<int64_t Options::*>(&option.field);
  if (number != nullptr) {
    added = app.add_option(option.flag, options.**number, option.help)
                ->check(whole_number(option.least, option.most));
  } else if (const auto* text = std::get_if<std::string Options::*>(&option.field)) {
    added = app.add_option(option.flag, options.**text, option.help);
  } else {
    added = app.add_option(option.flag,
                           options.*std::get<std::vector<std::string> Options::*>(option.field),
                           option.help)
                ->allow_extra_args(false);  // one after each flag
  }
  added->type_name(option.value);
  // A number below its least stands for "not given".
  if (number != nullptr ? options.**number >= option.least
                        : std::holds_alternative<std::string Options::*>(option.field)) {
    added->capture_default_str();
  }
}

void add_positionals(CLI::App& app, Options& options, Takes kind) {
  switch (kind) {
    case Takes::checkpoint:
      app.add_option("MODEL_DIR", options.model, "checkpoint directory")->required();
      break;
    case Takes::bundle:
      app.add_option("BUNDLE", options.model, "of compile --emit-only")->required();
      break;
    case Takes::bundle_and_checkpoint:
      app.add_option("BUNDLE", options.model, "of compile")->required();
      app.add_option("MODEL_DIR", options.checkpoint, "the fine-tune's directory")->required();
      break;
    case Takes::model:
      app.add_option("MODEL", options.model, "BUNDLE or MODEL_DIR")->required();
      break;
    case Takes::optional_model:
      app.add_option("MODEL", options.model, "BUNDLE or MODEL_DIR");
      break;
    case Takes::model_and_files:
      app.add_option("MODEL", options.model, "BUNDLE or MODEL_DIR")->required();
      app.add_option("FILE", options.files, "input; none or -: standard input");
      break;
    case Takes::output:
      app.add_option("OUT", options.output, "directory to make")->required();
      break;
    case Takes::nothing: break;
    case Takes::action:
      app.add_option("ACTION", options.action, "list or clear")
          ->check(CLI::IsMember({"list", "clear"}));
      break;
    case Takes::neff:
      app.add_option("ACTION", options.action, "info")->required()->check(CLI::IsMember({"info"}));
      app.add_option("FILE", options.model, "a NEFF")->required();
      break;
  }
}

// The first word is a command, or one of the options that need none.
void check_command(std::string_view word) {
  std::vector<std::string_view> names;
  for (const CommandRow& command : kCommands) names.push_back(command.name);
  if (word == "--help" || word == "-h" || word == "--version") return;
  check(std::find(names.begin(), names.end(), word) != names.end(),
        "there is no command \"{}\"; the commands are {}", shown(word), fmt::join(names, ", "));
}

}  // namespace

bool Options::is_given(std::string_view flag) const {
  return std::find(given.begin(), given.end(), flag) != given.end();
}

int Options::batch_sentences() const {
  if (batch == "auto") return 0;
  int value = 0;
  const auto [end, error] = std::from_chars(batch.data(), batch.data() + batch.size(), value);
  ng::check(
      error == std::errc() && end == batch.data() + batch.size() && value >= 1 && value <= 65536,
      "--batch {}: a number from 1 to 65536, or auto", shown(batch));
  return value;
}

int run_command_line(int argc, char** argv) {
  CLI::App app("neuroglot: NLLB-200 and M2M100 checkpoints compiled and run natively", "neuroglot");
  app.require_subcommand(1);
  app.footer(kEnvironment);
  app.set_version_flag("--version", NG_VERSION);
  if (argc > 1) check_command(argv[1]);
  Options options;
  for (const CommandRow& command : kCommands) {
    CLI::App* sub = app.add_subcommand(command.name, command.help);
    sub->footer(kEnvironment);
    add_positionals(*sub, options, command.takes);
    for (const OptionRow& option : kOptions) {
      if (takes(option, command)) add_option(*sub, options, option);
    }
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 1;
  }
  for (const CLI::App* command : app.get_subcommands()) {
    for (const CLI::Option* option : command->get_options()) {
      if (option->count() == 0) continue;
      options.given.push_back(option->get_name());
      const bool shapes = option->get_description().starts_with("fixed shapes: ");
      if (shapes) options.shapes.push_back(option->get_name());
    }
  }
  for (std::string& target : options.targets) {  // a plugin runs modules, it does not shape them
    if (target.starts_with("pjrt:") && target.size() > 5) target.resize(4);
  }
  options.batch_sentences();  // refuses what is no number, whether or not it is needed
  for (const CommandRow& command : kCommands) {
    if (app.got_subcommand(command.name)) return command.run(options);
  }
  return 1;
}

}  // namespace ng
