#include "compile/prepare.h"

#include <algorithm>
#include <cstring>
#include <exception>

#include "base/error.h"
#include "ir/build.h"
#include "ir/interpret.h"

namespace ng {
namespace {

constexpr int64_t kBlockBytes = int64_t{1} << 19;    // of a block's rows as float32
constexpr int64_t kTurnedRows = 32;                  // of a matrix that is transposed
constexpr int64_t kWholeBytes = int64_t{256} << 20;  // of a result that is not row-local

Type with_rows(Type type, int64_t rows) {
  type.shape.at(0) = rows;
  return type;
}

int64_t row_elements(const Type& type) {
  return element_count({type.shape.begin() + 1, type.shape.end()});
}

// Rows of a tensor in memory.
Tensor slice_rows(const Tensor& tensor, int64_t first, int64_t count) {
  const Type type = with_rows(tensor.type, count);
  const auto row = static_cast<size_t>(byte_count(with_rows(tensor.type, 1)));
  return {type, tensor.owner,
          tensor.data.subspan(static_cast<size_t>(first) * row, static_cast<size_t>(count) * row)};
}

// An aligned copy as float32.
Tensor to_f32(const Tensor& tensor) {
  const Type type{DType::f32, tensor.type.shape};
  if (tensor.type.dtype == DType::f32) {
    return Tensor::own(type, {tensor.data.begin(), tensor.data.end()});
  }
  return evaluate(Node{Op::convert, {}, {}, {type}}, {&tensor, 1}, {})[0];
}

std::span<const float> floats(const Tensor& tensor) {
  return {reinterpret_cast<const float*>(tensor.data.data()), tensor.data.size() / sizeof(float)};
}

// Where an element is infinite or NaN, whose bits hold the whole exponent; -1 without.
template <class Bits>
int64_t first_special(const Tensor& tensor, Bits exponent) {
  const std::span bits(reinterpret_cast<const Bits*>(tensor.data.data()),
                       tensor.data.size() / sizeof(Bits));
  const auto is_special = [=](Bits x) { return (x & exponent) == exponent; };
  Bits any = 0;
  for (const Bits x : bits) any |= static_cast<Bits>(is_special(x));
  return any == 0 ? -1 : std::ranges::find_if(bits, is_special) - bits.begin();
}

// [3,17] for the element `at` of a tensor whose rows begin at `first`.
std::string index_text(const Type& type, int64_t first, int64_t at) {
  std::string text;
  for (int axis = type.rank() - 1; axis > 0; --axis) {
    text = fmt::format(",{}{}", at % type.size(axis), text);
    at /= type.size(axis);
  }
  return fmt::format("[{}{}]", first + at, text);
}

// What one block of one output needs; blocks are independent of each other.
class Evaluation {
 public:
  Evaluation(const Graph& graph, const WeightRows& weights) : graph_(graph), weights_(weights) {}

  Tensor rows(Value value, int64_t first, int64_t count) const {
    const Node& node = graph_[value];
    switch (node.op) {
      case Op::weight: return weights_(node.attrs.name, first, count);
      case Op::concatenate:
        if (node.attrs.axis == 0) return concatenated(node, first, count);
        return whole(node, first, count);
      case Op::slice: return sliced(node, first, count);
      case Op::pack: return packed(node, first, count);
      case Op::convert: return converted(node, first, count);
      default: return whole(node, first, count);
    }
  }

 private:
  static Tensor run(const Node& node, Type type, std::span<const Tensor> inputs) {
    return evaluate(Node{node.op, {}, node.attrs, {std::move(type)}}, inputs, {})[0];
  }

  Tensor converted(const Node& node, int64_t first, int64_t count) const {
    const Tensor input = rows(node.inputs[0], first, count);
    Tensor result = run(node, with_rows(node.types[0], count), {&input, 1});
    if (result.type.dtype != DType::bf16) return result;
    const int64_t bad = first_special<uint16_t>(result, 0x7F80);
    if (bad >= 0) refuse_rounded(node.inputs[0], first, input, bad);
    return result;
  }

  // Element `at` of `input`, which are rows of `value` from `first` on, is too large for bf16. A
  // weight that was joined with others is named by itself.
  [[noreturn]] void refuse_rounded(Value value, int64_t first, const Tensor& input,
                                   int64_t at) const {
    const int64_t row = row_elements(input.type);
    first += at / row;
    int64_t column = at % row;
    for (const Node* made = &graph_[value]; made->op == Op::concatenate || made->op == Op::slice;
         made = &graph_[value]) {
      if (made->op == Op::slice) {
        (made->attrs.axis == 0 ? first : column) += made->attrs.begin;
        value = made->inputs[0];
        continue;
      }
      for (const Value& part : made->inputs) {
        value = part;
        if (first < graph_.type(part).size(0)) break;
        first -= graph_.type(part).size(0);
      }
    }
    fail("'{}' holds {} at {}, which bf16 rounds to infinity: compile with --dtype f32",
         graph_[value].attrs.name, floats(input)[static_cast<size_t>(at)],
         index_text(input.type, first, column));
  }

  Tensor sliced(const Node& node, int64_t first, int64_t count) const {
    if (node.attrs.axis == 0) return rows(node.inputs[0], first + node.attrs.begin, count);
    const Tensor input = rows(node.inputs[0], first, count);
    return run(node, with_rows(node.types[0], count), {&input, 1});
  }

  Tensor packed(const Node& node, int64_t first, int64_t count) const {  // rows are panels
    const int64_t begin = first * kPackWidth;
    const int64_t end = std::min((first + count) * kPackWidth, graph_.type(node.inputs[0]).size(0));
    const Tensor input = rows(node.inputs[0], begin, end - begin);
    return run(node, with_rows(node.types[0], count), {&input, 1});
  }

  Tensor concatenated(const Node& node, int64_t first, int64_t count) const {
    std::vector<Tensor> parts;
    int64_t begin = 0;
    for (const Value& input : node.inputs) {
      const int64_t size = graph_.type(input).size(0);
      const int64_t from = std::max(first, begin), to = std::min(first + count, begin + size);
      if (from < to) parts.push_back(rows(input, from - begin, to - from));
      begin += size;
    }
    if (parts.size() == 1) return parts[0];
    return run(node, with_rows(node.types[0], count), parts);
  }

  // A matrix; of its input some rows at a time, which stay in the cache.
  Tensor transposed(const Node& node) const {
    const Type& type = node.types[0];
    const int64_t lines = type.size(0), all = type.size(1);
    const auto width = static_cast<int64_t>(byte_size(type.dtype));
    std::vector<std::byte> out(static_cast<size_t>(byte_count(type)));
    for (int64_t first = 0; first < all; first += kTurnedRows) {
      const int64_t count = std::min(kTurnedRows, all - first);
      const Tensor input = rows(node.inputs[0], first, count);
      const Tensor part = run(node, {type.dtype, {lines, count}}, {&input, 1});
      for (int64_t i = 0; i < lines; ++i) {
        std::memcpy(out.data() + (i * all + first) * width, part.data.data() + i * count * width,
                    static_cast<size_t>(count * width));
      }
    }
    return Tensor::own(type, std::move(out));
  }

  Tensor whole(const Node& node, int64_t first, int64_t count) const {
    NG_CHECK(byte_count(node.types[0]) <= kWholeBytes, "prepare: {} gives {} and is not row-local",
             row(node.op).name, to_string(node.types[0]));
    if (node.op == Op::transpose) return slice_rows(transposed(node), first, count);
    std::vector<Tensor> inputs;
    for (const Value& input : node.inputs) inputs.push_back(all(input));
    return slice_rows(run(node, node.types[0], inputs), first, count);
  }

  Tensor all(Value value) const {
    const Node& node = graph_[value];
    if (node.types[0].rank() == 0) return run(node, node.types[0], {});  // a constant
    return rows(value, 0, node.types[0].size(0));
  }

  const Graph& graph_;
  const WeightRows& weights_;
};

struct Block {
  const Named* output;
  int64_t first, count;
  Tensor rows;
};

std::vector<Block> blocks_of(const Graph& graph) {
  std::vector<Block> blocks;
  for (const Named& output : graph.outputs) {
    const Type& type = graph.type(output.value);
    const int64_t row = std::max<int64_t>(row_elements(type) * 4, 1);
    int64_t most = std::max<int64_t>(kBlockBytes / row / kPackWidth * kPackWidth, 1);
    if (graph[output.value].op == Op::transpose) most = std::max<int64_t>(type.size(0), 1);
    for (int64_t first = 0; first < type.size(0); first += most) {
      blocks.push_back({&output, first, std::min(most, type.size(0) - first), {}});
    }
  }
  return blocks;
}

void write_blocks(std::span<Block> blocks, const Graph& graph, BundleWriter& out,
                  Progress& progress) {
  for (Block& block : blocks) {
    if (block.first == 0) out.begin_tensor(block.output->name, graph.type(block.output->value));
    out.write(block.rows.data);
    progress.advance(block.rows.data.size());
    block.rows = {};
  }
}

}  // namespace

WeightRows checkpoint_rows(const Checkpoint& checkpoint,
                           const std::map<std::string, std::string>& names) {
  return [&](const std::string& name, int64_t first, int64_t count) {
    const std::string& stored_name = names.at(name);
    const StoredTensor& stored = *checkpoint.find(stored_name);
    const Tensor raw = read_rows(stored, first, count);
    Tensor tensor = to_f32(raw);
    if (const int64_t bad = first_special<uint32_t>(tensor, 0x7F800000); bad >= 0) {
      fail("{}: '{}' holds {} at {}: weights must be finite", checkpoint.path().string(),
           stored_name, floats(tensor)[static_cast<size_t>(bad)],
           index_text(stored.type, first, bad));
    }
    if (stored.strides.empty() && !raw.data.empty()) {
      const auto offset = raw.data.data() - stored.file->bytes().data();
      stored.file->release(static_cast<size_t>(offset), raw.data.size());
    }
    return tensor;
  };
}

uint64_t prepared_bytes(const Graph& prepare) {
  uint64_t bytes = 0;
  for (const Named& output : prepare.outputs) {
    bytes += static_cast<uint64_t>(byte_count(prepare.type(output.value))) + 64;
  }
  return bytes;
}

void write_prepared(const Graph& prepare, const WeightRows& weights, BundleWriter& out,
                    const Work& work) {
  const Evaluation evaluation(prepare, weights);
  std::vector<Block> blocks = blocks_of(prepare);
  std::span<Block> left = blocks, made;  // these are written while the next ones are made
  while (!left.empty() || !made.empty()) {
    const auto batch = left.first(std::min<size_t>(8, left.size()));  // some hundred MB, twice
    left = left.subspan(batch.size());
    std::vector<std::exception_ptr> errors(batch.size() + 1);  // the last is the writer's
    work.threads.run(errors.size(), [&](size_t i) {
      try {
        if (i == batch.size()) return write_blocks(made, prepare, out, work.progress);
        Block& block = batch[i];
        block.rows = evaluation.rows(block.output->value, block.first, block.count);
      } catch (...) {
        errors[i] = std::current_exception();
      }
    });
    for (const auto& error : errors) {
      if (error) std::rethrow_exception(error);
    }
    made = batch;
  }
}

}  // namespace ng
