#include "translate/bucket_modules.h"

#include <algorithm>

#include "base/error.h"

namespace ng {
namespace {

using Segments = std::vector<LoadedSegment>;

bool has(const std::vector<Port>& ports, const Port& port) {
  return std::any_of(ports.begin(), ports.end(), [&](const Port& one) {
    return one.name == port.name && one.type == port.type;
  });
}

// What a module of `phase` may read.
std::vector<Port> module_inputs(const std::string& phase, const Bucket& bucket,
                                const StaticSizes& sizes) {
  const int64_t rows = bucket.sentences * bucket.rows;
  std::vector<Port> ports;
  for (const char* name : {"tokens", "positions", "length"}) ports.push_back({name, s32({rows})});
  if (phase == "encode") {
    ports.push_back({"memory_index", s32({rows})});
    ports.push_back({"start", s32({rows, 1})});
    return ports;
  }
  ports.push_back({"cache_index", s32({rows})});
  ports.push_back({"memory_length", s32({rows})});
  ports.push_back({"memory_start", s32({rows, 1})});
  if (sizes.reorder == 0) {
    ports.push_back({"history", s32({rows, sizes.target})});
  } else {
    ports.push_back({"region", s32({phase == "prefill" ? bucket.sentences : rows})});
    ports.push_back({"parent", s32({sizes.regions()})});
  }
  ports.push_back({"slot", s32({bucket.sentences})});
  return ports;
}

// What a module of `phase` must give; hidden states need not be there.
std::vector<Port> module_outputs(const std::string& phase, const Bucket& bucket,
                                 const StaticSizes& sizes) {
  const int64_t rows = bucket.sentences * bucket.rows;
  if (phase == "encode" || phase == "prefill") return {};
  const Port sum = {"log_sum_exp", {DType::f32, {rows}}};
  const int64_t vocabulary = sizes.parts().rows(), k = std::min(sizes.candidates, vocabulary);
  if (phase == "logits" || k == 0) return {{"logits", {DType::f32, {rows, vocabulary}}}, sum};
  return {{"scores", {DType::f32, {rows, k}}}, {"ids", s32({rows, k})}, sum};
}

// Sizes come from a file, and so do modules: do they fit each other? States may be given twice.
void check_module(const std::string& phase, const Bucket& bucket, const StaticSizes& sizes,
                  const Segments& segments) {
  const std::vector<Port> columns = module_inputs(phase, bucket, sizes);
  std::vector<Port> readable = columns;
  for (const LoadedSegment& segment : segments) {
    for (const Port& port : segment.executable->inputs()) {
      check(segment.keeps(port) || has(readable, port),
            "module {} reads {} '{}', which does not fit its bundle", bucket.name,
            to_string(port.type), shown(port.name));
    }
    for (const Port& port : segment.executable->outputs()) {
      check(!std::ranges::count(segment.keeps(port) ? columns : readable, port.name, &Port::name),
            "module {} gives '{}' once more: its bundle is damaged", bucket.name, shown(port.name));
      readable.push_back(port);
    }
  }
  for (const Port& port : module_outputs(phase, bucket, sizes)) {
    const Port all = {port.name, of_ranks(port.type, sizes.ranks)};
    check(has(readable, all), "module {} does not give {} '{}': its bundle is damaged", bucket.name,
          to_string(all.type), port.name);
  }
}

}  // namespace

bool LoadedSegment::keeps(const Port& port) const {
  const auto& gives = executable->outputs();
  if (states == nullptr) return false;
  return states->contains(port.name) || (has(executable->inputs(), port) && has(gives, port));
}

Argument LoadedSegment::state(const Port& port) const {
  const auto size = static_cast<size_t>(byte_count(port.type));
  std::vector<std::byte>& bytes = states->try_emplace(port.name, size).first->second;
  check(bytes.size() == size, "state '{}' is {} in one module, another in others", shown(port.name),
        to_string(port.type));
  return {port.type, bytes.data()};
}

Modules::Modules(std::string phase, std::vector<Bucket> buckets, const StaticSizes& sizes,
                 Executions& executions)
    : phase_(std::move(phase)),
      sizes_(sizes),
      buckets_(std::move(buckets)),
      loaded_(buckets_.size()),
      executions_(executions) {
  NG_CHECK(!buckets_.empty(), "a phase without modules");
}

void Modules::run(size_t at, Columns& columns, HostResults& results) {
  const Bucket& bucket = load(at);
  const Segments& segments = loaded_[at];
  for (size_t i = 0; i < segments.size(); ++i) {
    const LoadedSegment& segment = segments[i];
    std::vector<Argument> inputs, outputs;
    for (const Port& port : segment.executable->inputs()) {
      const bool kept = segment.keeps(port) && !columns.holds(port.name);
      inputs.push_back(kept                       ? segment.state(port)
                       : results.holds(port.name) ? results.argument(port)
                                                  : columns.argument(port));
    }
    for (const Port& port : segment.executable->outputs()) {
      outputs.push_back(segment.keeps(port) ? segment.state(port) : results.argument(port));
    }
    segment.executable->run(inputs, outputs);
    ++executions_[bucket.segments[i].name];
  }
}

const Bucket& Modules::load(size_t at) {
  if (loaded_[at].empty()) {
    Segments segments;
    for (const auto& one : buckets_[at].segments) segments.push_back({one.load(), one.states});
    check_module(phase_, buckets_[at], sizes_, segments);
    loaded_[at] = std::move(segments);
  }
  return buckets_[at];
}

}  // namespace ng
