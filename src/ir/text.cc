// How is a graph written as text and read back?
#include "ir/text.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "base/error.h"
#include "ir/verify.h"

namespace ng {
namespace {

constexpr size_t kLineLimit = size_t{64} << 10, kNameLimit = 256;

// Calls field(name, attribute, its default) for every attribute, in the order they are printed.
template <class SomeAttrs, class Field>
void each_attribute(SomeAttrs& attrs, Field field) {
  static const Attrs defaults;
  field("name", attrs.name, defaults.name);
  field("dims", attrs.dims, defaults.dims);
  field("values", attrs.values, defaults.values);
  field("axis", attrs.axis, defaults.axis);
  field("begin", attrs.begin, defaults.begin);
  field("heads", attrs.heads, defaults.heads);
  field("padding", attrs.padding, defaults.padding);
  field("scale", attrs.scale, defaults.scale);
  field("eps", attrs.eps, defaults.eps);
  field("activation", attrs.activation, defaults.activation);
}

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '-' || c == '.';
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    const auto byte = static_cast<unsigned char>(c);
    byte < 0x20 ? out += fmt::format("\\u{:04x}", byte) : out += c;
  }
  return out + "\"";
}

std::string shown_value(Value value) {
  return value.result == 0 ? fmt::format("%{}", value.node)
                           : fmt::format("%{}.{}", value.node, value.result);
}

std::string shown_field(const std::string& text) { return quoted(text); }
std::string shown_field(ActivationKind kind) { return std::string(name(kind)); }
template <class Number>
std::string shown_field(Number number) {  // fmt prints the shortest text that reads back the same
  return fmt::format("{}", number);
}
template <class Number>
std::string shown_field(const std::vector<Number>& numbers) {
  return fmt::format("[{}]", fmt::join(numbers, ","));
}

std::string shown_node(const Node& node) {
  std::string line = fmt::format("{}(", row(node.op).name);
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    line += (i == 0 ? "" : ", ") + shown_value(node.inputs[i]);
  }
  line += ")";
  each_attribute(node.attrs, [&](const char* key, const auto& value, const auto& usual) {
    if (value != usual) line += fmt::format(" {}={}", key, shown_field(value));
  });
  for (size_t i = 0; i < node.types.size(); ++i) {
    line += (i == 0 ? " : " : ", ") + to_string(node.types[i]);
  }
  return line;
}

// Reads one line at a time; every failure says where.
class Parser {
 public:
  Parser(std::string_view text, std::string_view what) : rest_(text), what_(what) {}

  Graph parse() {
    Graph graph = header();
    while (next_line()) {
      peek() == '%' ? node(graph) : output(graph);
      need(at_ == line_.size(), "the end of the line");
    }
    return graph;
  }

 private:
  template <class... Args>
  [[noreturn]] void fail_here(fmt::format_string<Args...> format, Args&&... args) const {
    fail("{}:{}:{}: {}", what_, number_, at_ + 1, fmt::format(format, std::forward<Args>(args)...));
  }
  void need(bool holds, const char* expected) const {
    if (!holds) fail_here("expected {}, found '{}'", expected, shown(line_.substr(at_), 20));
  }

  bool next_line() {
    if (rest_.empty()) return false;
    const size_t end = rest_.find('\n');
    ++number_;
    at_ = 0;
    line_ = rest_.substr(0, end);
    rest_ = end == std::string_view::npos ? std::string_view() : rest_.substr(end + 1);
    if (line_.size() > kLineLimit) fail_here("a line of {} bytes", line_.size());
    return true;
  }

  char peek() const { return at_ < line_.size() ? line_[at_] : '\0'; }
  bool take(std::string_view token) {
    if (line_.substr(at_, token.size()) != token) return false;
    at_ += token.size();
    return true;
  }
  void expect(const char* token) { need(take(token), token); }

  std::string_view word() {
    const size_t begin = at_;
    while (is_word(peek())) ++at_;
    return line_.substr(begin, at_ - begin);
  }

  template <class Number>
  void read(Number& number) {
    const char* end = line_.data() + line_.size();
    const auto result = std::from_chars(line_.data() + at_, end, number);
    need(result.ec == std::errc(), "a number");
    at_ = static_cast<size_t>(result.ptr - line_.data());
  }
  template <class Number>
  void read(std::vector<Number>& numbers) {
    expect("[");
    numbers.clear();
    while (!take("]")) {
      if (!numbers.empty()) expect(",");
      read(numbers.emplace_back());
    }
  }
  void read(ActivationKind& kind) {
    const std::string_view found = word();
    for (const auto candidate :
         {ActivationKind::none, ActivationKind::relu, ActivationKind::gelu, ActivationKind::silu}) {
      kind = candidate;
      if (name(candidate) == found) return;
    }
    fail_here("'{}' is no activation", shown(found));
  }
  void read(std::string& text) {
    expect("\"");
    text.clear();
    while (!take("\"")) {
      need(at_ < line_.size(), "a closing quote");
      text += take("\\") ? escaped() : line_[at_++];
      if (text.size() > kNameLimit) fail_here("a name of more than {} bytes", kNameLimit);
    }
  }
  char escaped() {
    if (peek() == '"' || peek() == '\\') return line_[at_++];
    expect("u00");
    unsigned code = 0;
    const std::string_view digits = line_.substr(at_, 2);
    const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
    need(result.ptr == digits.data() + 2 && code < 0x20, "a control character's code");
    at_ += 2;
    return static_cast<char>(code);
  }

  Value value(const Graph& graph) {
    Value read_value;
    expect("%");
    read(read_value.node);
    if (take(".")) read(read_value.result);
    const bool exists = read_value.node < graph.nodes().size() &&
                        read_value.result < graph.nodes()[read_value.node].types.size();
    if (!exists) fail_here("{} does not exist yet", shown_value(read_value));
    return read_value;
  }

  Dim dim() {
    Dim read_dim;
    if (peek() >= 'a' && peek() <= 'z') {
      const std::string_view found = word();
      for (const Count count : kCounts) {
        if (count != Count::none && name(count) == found) read_dim.count = count;
      }
      if (read_dim.count == Count::none) fail_here("'{}' is no count", shown(found));
      expect("<=");
    }
    read(read_dim.size);
    return read_dim;
  }

  Type type() {
    Type read_type;
    const std::string_view found = word();
    if (!dtype_from_name(found, read_type.dtype)) fail_here("'{}' is no dtype", shown(found));
    expect("[");
    while (!take("]")) {
      if (!read_type.shape.empty()) expect(",");
      read_type.shape.push_back(dim());
      need(read_type.shape.size() <= 4, "at most 4 axes");
    }
    return read_type;
  }

  void attributes(Attrs& attrs) {
    std::set<std::string_view> seen;
    while (!take(" : ")) {
      expect(" ");
      const std::string_view key = word();
      if (!seen.insert(key).second) fail_here("'{}' stands twice", shown(key));
      expect("=");
      bool known = false;
      each_attribute(attrs, [&](std::string_view candidate, auto& field, const auto&) {
        if (candidate != key) return;
        known = true;
        read(field);
      });
      if (!known) fail_here("'{}' is no attribute", shown(key));
    }
  }

  void node(Graph& graph) {
    Node made;
    uint32_t id = 0;
    expect("%");
    read(id);
    if (id != graph.nodes().size()) fail_here("%{} where %{} is next", id, graph.nodes().size());
    if (id >= kNodeLimit) fail_here("more than {} nodes", kNodeLimit);
    expect(" = ");
    made.op = op();
    expect("(");
    while (!take(")")) {
      if (!made.inputs.empty()) expect(", ");
      made.inputs.push_back(value(graph));
    }
    attributes(made.attrs);
    do made.types.push_back(type());
    while (made.types.size() < 3 && take(", "));
    if (graph.add(std::move(made)).node != id) fail_here("%{} repeats an earlier node", id);
  }

  Op op() {
    const std::string_view found = word();
    for (const OpRow& candidate : op_table()) {
      if (candidate.name == found) return candidate.op;
    }
    fail_here("'{}' is no op", shown(found));
  }

  void output(Graph& graph) {
    Named made;
    expect("output ");
    read(made.name);
    expect(" = ");
    made.value = value(graph);
    graph.outputs.push_back(std::move(made));
  }

  Graph header() {
    next_line();
    expect("graph ");
    std::string graph_name;
    peek() == '"' ? read(graph_name) : static_cast<void>(graph_name = word());
    if (graph_name.size() > kNameLimit) fail_here("a name of more than {} bytes", kNameLimit);
    need(at_ == line_.size(), "the end of the line");
    return Graph(graph_name);
  }

  std::string_view rest_, what_, line_;
  size_t number_ = 0, at_ = 0;
};

}  // namespace

std::string print(const Graph& graph) {
  const bool plain = std::all_of(graph.name.begin(), graph.name.end(), is_word);
  std::string text = "graph " + (plain ? graph.name : quoted(graph.name)) + "\n";
  for (size_t at = 0; at < graph.nodes().size(); ++at) {
    text += fmt::format("%{} = {}\n", at, shown_node(graph.nodes()[at]));
  }
  for (const Named& output : graph.outputs) {
    text += fmt::format("output {} = {}\n", quoted(output.name), shown_value(output.value));
  }
  return text;
}

Graph parse_graph(std::string_view text, std::string_view what) {
  Graph graph = Parser(text, what).parse();
  try {
    verify(graph);
  } catch (const Error& error) {
    throw Error(error.kind(), fmt::format("{}: {}", what, error.what()));
  }
  return graph;
}

}  // namespace ng
