// The compiler's passes: each a function from graph to graph that keeps what the graph means.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "ir/graph.h"
#include "tensor/ranks.h"

namespace ng {

// fuse: activate(linear) and linear + x become one linear; up to four linears of the same x (q, k,
// v) become one over concatenated weights, and slices of its result. Bit-identical: every output
// keeps its own chain, bias, activation and residual, in that order.
Graph fuse(const Graph& graph);

// precision: every matrix (the weight of linear and project_top_k, the table of embed) is converted
// to `dtype`; vectors, activations, sums and caches stay float32. f32: no change.
Graph precision(const Graph& graph, DType dtype);

// pack: every matrix is laid out in panels of 16 outputs, as the CPU's kernels read it.
Graph pack_matrices(const Graph& graph);

// split_static: what depends on weights and constants alone moves into a second graph, whose
// outputs are the tensors the phase then names as its weights. Their names say how they were made
// ("model.shared.weight.bf16.packed"), so that phases share them.
struct Split {
  Graph phase, prepare;
};
Split split_static(const Graph& graph);

// shard: what each of several ranks runs of a phase before any other pass: the same graph, of other
// parts of the weights. What ranks know in part (keys and values, scores) each gives by itself,
// with its own ids. A number that does not divide attention heads or the feed-forward size: User.
Graph shard(const Graph& phase, int64_t ranks);  // of one: `phase`

// prepare_of_ranks: what `prepare` makes for a sharded phase, for all ranks. `phase` is the one
// that was sharded. An output that differs by rank has a name for each (tensor/ranks.h).
Graph prepare_of_ranks(const Graph& prepare, const Graph& phase, const VocabularyParts& parts);

// A module of a static target (docs/neuron.md): how the rows that it is built for belong together.
struct StaticShape {
  int64_t sentences = 1;       // consecutive rows, equally many each, belong to one sentence
  int64_t slots = 1;           // sentences that the memory holds, in equally many rows each
  int64_t positions = 0;       // every position is below
  DType compute = DType::f32;  // of what matrix products multiply, and of caches; sums are f32
  bool hidden = false;         // encode gives its output
  int64_t regions = 0;         // of the caches where beams are reordered, the sink last; else 0
};

// positions: embed reads a table of sinusoids [positions, d] instead of computing them.
Graph tabulate_positions(const Graph& graph, int64_t positions);

// legalize: only what static targets have (docs/neuron.md) is left: exact sizes, primitives,
// indices clamped into range, finite masks. Attention over a run of keys becomes one product a
// sentence: the runs are where `shape` says, so the inputs that said it go; with fewer sentences
// than slots the input "slot" s32[sentences] says whose memory is read. The best of a vocabulary
// are found in stages of at most kTopKWidth scores. Taps (encoder.N, decoder.N) go.
// With regions, a row reads the first `length` rows of one region of the caches, not a history:
// its own; in a prefill its sentence's, which input "region" s32[sentences] names, as it names
// those of fewer sentences' rows than regions. Other phases than prefill first take every region
// from the one that input "parent" s32[regions] names; their caches are replaced (ir/replaced.h).
Graph legalize(const Graph& phase, const StaticShape& shape);

// Without what a device does not give: taps (encoder.N, decoder.N), and hidden states unless asked.
Graph without_taps(const Graph& graph, bool hidden);

// Capacities become exact sizes.
Graph exact_sizes(const Graph& graph);

inline constexpr int64_t kTopKWidth = 16384, kTopKMultiple = 8;  // AwsNeuronTopK's rows

// What runs together, on the device or on the CPU: a part of a phase that reads and gives values of
// other segments as inputs and outputs named OP.NODE.RESULT, or as the phase's output that they
// are; a state by its name. What depends on weights alone is in each that uses it.
struct Segment {
  bool cpu = false;
  Graph graph = Graph();
  std::map<std::string, int64_t> ops = {};  // of the phase: how many
  std::set<std::string> reasons = {};       // for the CPU, and
  int64_t boundary_bytes = 0;  // what this gets from the device and gives to it in a run
};

// partition: segments in the order that they run in. A node runs on the CPU where `why` (by node)
// says so, a slice where it is cut from.
std::vector<Segment> partition(const Graph& phase, const std::vector<std::string>& why);

std::vector<bool> run_nodes(const Graph& phase);     // what each run computes anew
bool uses_state(const Graph& phase, uint32_t node);  // reads or writes one
Graph alone(const Graph& phase, uint32_t node);      // as a segment

// What a target wants of the passes.
struct LoweringOptions {
  DType weight_dtype = DType::f32;
  bool fused = true;
  bool packed = true;
  std::string stop_after;                 // a stage's name: later ones are left out
  std::vector<std::string> without;       // stages to leave out
  std::optional<StaticShape> shape = {};  // of a static target
};

// contraction_first: matrices that are only multiplied with are kept as [k, n]; tensors that the
// phase no longer reads are not made.
Split contraction_first(const Split& split);

// Every stage in order, the graph verified after each. Unknown stage names: User, listing them.
Split lower(const Graph& graph, const LoweringOptions& options);
std::vector<std::string_view> stage_names();

// `more`'s nodes and outputs added to `prepare`; one name always means one value.
void merge_prepare(Graph& prepare, const Graph& more);

}  // namespace ng
