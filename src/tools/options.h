// The command line: every command and every option once, for parsing, help, checks and docs.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ng {

struct Options {
  std::string model;               // BUNDLE or MODEL_DIR
  std::vector<std::string> files;  // input files; none: standard input
  std::string output, input, stats, reference, as;
  std::vector<std::string> targets = {"cpu"};
  std::string target, checkpoint;  // of analyze; of replace-weights
  std::string device, dtype = "f32", batch = "auto";
  std::string batches = "1,8", source_lengths = "32,64,128,256", topk = "device",
              beam_caches = "history";
  std::string from, to, split = "none", long_sources = "cut", lang, dialect = "hf";
  std::string cpu_ops, neuronx_cc, compiler_args, neffs, libnrt;
  std::string graph, stage;
  std::vector<std::string> without;
  std::string shape, format = "bin";
  std::string action = "list";  // of cache
  int64_t threads = 0, warmup = 0, repeat = 1;
  int64_t beams = 4, target_length = 256, jobs = 1, tp = 1;
  int64_t min_subgraph_size = 0, max_subgraph_count = 0;
  int64_t beam = 0, n_best = 0, max_source_tokens = 512;
  std::string lengths, text;  // files of sources, or of their lengths
  int64_t graphs = 0;
  int64_t sentences = 4, shards = 1, seed = 0;
  bool force = false, quiet = false, scores = false, jsonl = false, json = false, check = false;
  bool special = false, with_logits = false, emit_only = false;

  std::vector<std::string> given, shapes;  // flags that were there; those of fixed shapes alone

  bool is_given(std::string_view flag) const;
  int batch_sentences() const;  // 0: auto
};

// Parses the command line and runs the command: the process's exit code. Errors are thrown.
int run_command_line(int argc, char** argv);

// The commands, each in its own file. They return 0, or 1 when some records failed.
int compile_command(const Options& options);
int finish_command(const Options& options);
int replace_weights_command(const Options& options);
int translate_command(const Options& options);
int generate_command(const Options& options);
int forward_command(const Options& options);
int verify_command(const Options& options);
int inspect_command(const Options& options);
int analyze_command(const Options& options);
int plan_buckets_command(const Options& options);
int tokenize_command(const Options& options);
int detokenize_command(const Options& options);
int languages_command(const Options& options);
int devices_command(const Options& options);
int neff_command(const Options& options);
int cache_command(const Options& options);
int make_checkpoint_command(const Options& options);

}  // namespace ng
