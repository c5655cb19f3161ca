#include "translate/session.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "translate/ports.h"

namespace ng {

// A loaded phase and the arguments of its next run.
struct Session::Phase {
  std::unique_ptr<Executable> executable;
  std::vector<Argument> inputs, outputs;
  std::map<std::string, size_t> input_at, output_at;

  Argument& input(const char* name) { return inputs[input_at.at(name)]; }
  Argument& output(const char* name) { return outputs[output_at.at(name)]; }

  // Binds the states, and nothing else.
  void bind_states(const States& states) {
    for (const auto& [name, at] : input_at)
      inputs[at] = states.has(name) ? states.argument(name) : Argument{};
    for (const auto& [name, at] : output_at)
      outputs[at] = states.has(name) ? states.argument(name) : Argument{};
  }
};

// s32 values of one run's input, by rows.
struct Column {
  std::vector<int32_t> values;
  Argument argument(Shape shape) {
    return {Type{DType::s32, std::move(shape)}, reinterpret_cast<std::byte*>(values.data())};
  }
};

// The encoder's inputs: every source's ids that count, one after the other; then, where somebody
// wants the hidden states of all ids, those that do not count: they read the others' keys and are
// read by nobody.
struct Session::PackedSources {
  Column tokens, positions, start, length, memory_index;
  std::vector<size_t> order;  // packed → index in the concatenated sources

  void add(int32_t token, int32_t position, const Memory& memory, int32_t first, int32_t index) {
    tokens.values.push_back(token);
    positions.values.push_back(position);
    start.values.push_back(first);
    length.values.push_back(memory.length);
    memory_index.values.push_back(index);
  }
};

namespace {

template <class T>
Argument result(std::vector<T>& values, DType dtype, Shape shape) {
  values.resize(static_cast<size_t>(element_count(shape)));
  return {Type{dtype, std::move(shape)}, reinterpret_cast<std::byte*>(values.data())};
}

// Rows of `packed` [tokens, d] in the order of the concatenated sources.
Tensor in_source_order(const std::vector<float>& packed, const std::vector<size_t>& order,
                       int64_t d) {
  std::vector<std::byte> rows(packed.size() * sizeof(float));
  const size_t bytes = static_cast<size_t>(d) * sizeof(float);
  for (size_t i = 0; i < order.size(); ++i) {
    std::memcpy(&rows[order[i] * bytes], &packed[i * static_cast<size_t>(d)], bytes);
  }
  const auto tokens = static_cast<int64_t>(order.size());
  return Tensor::own(Type{DType::f32, {tokens, d}}, std::move(rows));
}

bool counts(const Source& source, size_t i) { return source.mask.empty() || source.mask[i] != 0; }

}  // namespace

Session::Session(Phases phases, Device& device)
    : vocabulary_(phases.vocabulary),
      pad_(phases.pad),
      load_([phases = std::move(phases), &device](const std::string& name) {
        return device.load(phases.artifact(name), phases.weight);
      }) {
  phase("encode");
  phase("decode");
}

Session::Session(StaticPhases phases)
    : vocabulary_(phases.vocabulary),
      pad_(phases.pad),
      sizes_(phases.sizes),
      has_logits_(phases.logits),
      load_(std::move(phases.load)) {
  phase("encode");
  phase("decode");
}

Session::~Session() = default;

Session::Phase& Session::phase(const std::string& name) {
  auto& loaded = phases_[name];
  if (loaded) return *loaded;
  auto made = std::make_unique<Phase>();
  NG_CHECK(name != "logits" || has_logits_, "a caller did not ask has_logits()");
  made->executable = load_(name);
  const auto& inputs = made->executable->inputs();
  const auto& outputs = made->executable->outputs();
  check_ports(name, {inputs, outputs}, vocabulary_,
              [&](const std::string& state) { return states_.has(state); });
  made->inputs.resize(inputs.size());
  made->outputs.resize(outputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) made->input_at[inputs[i].name] = i;
  for (size_t i = 0; i < outputs.size(); ++i) {
    made->output_at[outputs[i].name] = i;
    if (made->input_at.count(outputs[i].name) != 0) {
      states_.declare(outputs[i].name, outputs[i].type);
    }
  }
  loaded = std::move(made);
  return *loaded;
}

int32_t Session::position_of(int32_t id, int64_t index) const {
  const auto pad = static_cast<int32_t>(pad_);
  return id == pad ? pad : static_cast<int32_t>(pad + 1 + index);
}

// Packs one source whose ids begin at `offset` of all sources' ids: the ids that count, then, with
// `masked`, the others.
void Session::pack(const Source& source, size_t offset, const Memory& memory, bool masked,
                   PackedSources& packed) const {
  const auto first = static_cast<int32_t>(packed.tokens.values.size());
  for (const bool counted : {true, false}) {
    int32_t index = memory.start;
    int64_t before = 0;  // ids so far that are no padding
    for (size_t i = 0; i < source.ids.size(); ++i) {
      const int32_t position = position_of(source.ids[i], before);
      before += source.ids[i] == pad_ ? 0 : 1;
      if (counts(source, i) != counted || (!counted && !masked)) continue;
      packed.add(source.ids[i], position, memory, first, counted ? index++ : -1);
      packed.order.push_back(offset + i);
    }
  }
}

std::vector<Memory> Session::encode(std::span<const Source> sources, Tensor* hidden) {
  std::vector<Memory> memories(sources.size());
  Phase& run = phase("encode");
  const int64_t room = run.executable->inputs()[run.input_at.at("tokens")].type.size(0);
  int64_t ids = 0;
  for (const Source& source : sources) ids += static_cast<int64_t>(source.ids.size());
  check(ids <= room, "{} source ids at once, at most {} fit: give fewer rows at a time", ids, room);
  for (size_t s = 0; s < sources.size(); ++s) {
    for (size_t i = 0; i < sources[s].ids.size(); ++i) {
      memories[s].length += counts(sources[s], i) ? 1 : 0;
    }
    check(memories[s].length > 0, "a source has no ids that count");
  }
  // A slot of a static target is a run that holds the longest source.
  for (Memory& memory : memories) memory.start = memory_rows_.take(run_of(memory.length));
  try {
    run_encoder(sources, memories, hidden);
  } catch (...) {  // nobody else knows of these rows
    for (const Memory& memory : memories) release(memory);
    throw;
  }
  return memories;
}

void Session::run_encoder(std::span<const Source> sources, std::span<const Memory> memories,
                          Tensor* hidden) {
  Phase& run = phase("encode");
  PackedSources packed;
  size_t offset = 0;
  for (size_t s = 0; s < sources.size(); ++s) {
    pack(sources[s], offset, memories[s], hidden != nullptr, packed);
    offset += sources[s].ids.size();
  }
  states_.grow(Count::memory, memory_rows_.size());

  run.bind_states(states_);
  const auto tokens = static_cast<int64_t>(packed.tokens.values.size());
  run.input("tokens") = packed.tokens.argument({tokens});
  run.input("positions") = packed.positions.argument({tokens});
  run.input("start") = packed.start.argument({tokens, 1});
  run.input("length") = packed.length.argument({tokens});
  run.input("memory_index") = packed.memory_index.argument({tokens});
  std::vector<float> states;
  const size_t hidden_at = run.output_at.at("hidden");
  const int64_t d = run.executable->outputs()[hidden_at].type.size(1);
  if (hidden != nullptr) run.outputs[hidden_at] = result(states, DType::f32, {tokens, d});
  run.executable->run(run.inputs, run.outputs);
  if (hidden != nullptr) *hidden = in_source_order(states, packed.order, d);
}

void Session::release(const Memory& memory) {
  memory_rows_.give(memory.start, run_of(memory.length));
}

void Session::step(std::span<const DecodeRow> rows, Wanted wanted, int64_t k, StepResult& out) {
  const auto count = static_cast<int64_t>(rows.size());
  Column tokens, positions, history, length, index, start, memory_length;
  size_t context = 1;
  for (const DecodeRow& row : rows) context = std::max(context, row.history.size());
  for (const DecodeRow& row : rows) {
    tokens.values.push_back(row.token);
    positions.values.push_back(row.position);
    history.values.insert(history.values.end(), row.history.begin(), row.history.end());
    history.values.resize(history.values.size() + context - row.history.size());
    length.values.push_back(static_cast<int32_t>(row.history.size()));
    index.values.push_back(row.history.back());
    start.values.push_back(row.memory.start);
    memory_length.values.push_back(row.memory.length);
  }
  states_.grow(Count::cache, cache_rows_.size());

  Phase& run = phase(wanted == Wanted::nothing      ? "prefill"
                     : wanted == Wanted::candidates ? "decode"
                                                    : "logits");
  run.bind_states(states_);
  run.input("tokens") = tokens.argument({count});
  run.input("positions") = positions.argument({count});
  run.input("history") = history.argument({count, static_cast<int64_t>(context)});
  run.input("length") = length.argument({count});
  run.input("cache_index") = index.argument({count});
  run.input("memory_start") = start.argument({count, 1});
  run.input("memory_length") = memory_length.argument({count});
  out.k = wanted == Wanted::logits ? vocabulary_ : k;
  out.ids.clear();
  if (wanted == Wanted::candidates) {
    run.output("scores") = result(out.scores, DType::f32, {count, k});
    run.output("ids") = result(out.ids, DType::s32, {count, k});
  }
  if (wanted == Wanted::logits) {
    run.output("logits") = result(out.scores, DType::f32, {count, out.k});
  }
  if (wanted != Wanted::nothing) {
    run.output("log_sum_exp") = result(out.log_sum_exp, DType::f32, {count});
  }
  run.executable->run(run.inputs, run.outputs);
}

uint64_t Session::memory_bytes(int64_t source_tokens) const {
  return states_.row_bytes(Count::memory) * static_cast<uint64_t>(source_tokens);
}

uint64_t Session::cache_bytes(int64_t target_tokens) const {
  return states_.row_bytes(Count::cache) * static_cast<uint64_t>(target_tokens);
}

}  // namespace ng
