#include "checkpoint/pickle.h"

#include <algorithm>
#include <unordered_map>

#include "base/error.h"

namespace ng {
namespace {

constexpr size_t kMaxObjects = 4'000'000;  // 100,000 tensors make 2 million
constexpr size_t kMaxStack = 1'000'000;    // Python's pickler flushes every 1,000 items
constexpr size_t kMaxMarks = 64;           // nesting
constexpr size_t kMaxName = 512;

// What a global does when it is called.
enum class Callee : uint8_t { Storage, Dict, Tensor, Parameter };

struct Global {
  std::string_view module, name;
  Callee callee;
  DType dtype = DType::f32;  // of a Storage
};
constexpr Global kGlobals[] = {
    {"collections", "OrderedDict", Callee::Dict},
    {"torch._utils", "_rebuild_tensor_v2", Callee::Tensor},
    {"torch._utils", "_rebuild_tensor", Callee::Tensor},
    {"torch._utils", "_rebuild_parameter", Callee::Parameter},
    {"torch", "FloatStorage", Callee::Storage, DType::f32},
    {"torch", "HalfStorage", Callee::Storage, DType::f16},
    {"torch", "BFloat16Storage", Callee::Storage, DType::bf16},
    {"torch", "DoubleStorage", Callee::Storage, DType::f64},
    {"torch", "LongStorage", Callee::Storage, DType::s64},
    {"torch", "IntStorage", Callee::Storage, DType::s32},
    {"torch", "CharStorage", Callee::Storage, DType::s8},
    {"torch", "ByteStorage", Callee::Storage, DType::u8},
    {"torch", "BoolStorage", Callee::Storage, DType::u8},
};

enum class Kind : uint8_t {
  None,
  Bool,
  Int,
  Float,
  String,
  Tuple,
  List,
  Dict,
  Global,
  Storage,
  Tensor
};

using Id = uint32_t;  // of an object; containers are changed in place, so everything is by id

struct Object {
  Kind kind = Kind::None;
  DType dtype = DType::f32;    // Storage
  int64_t number = 0;          // Bool, Int; Global: its row; Storage: numel
  std::string_view text = {};  // String; Storage: key
  // Tuple, List; Dict: key, value, …; Tensor: storage, offset, size, stride
  std::vector<Id> items = {};
};

class Machine {
 public:
  Machine(std::span<const std::byte> bytes, std::string_view what)
      : bytes_(reinterpret_cast<const char*>(bytes.data()), bytes.size()), what_(what) {}

  std::map<std::string, PickledTensor> run();

 private:
  // One opcode each; false: not one of theirs.
  bool push_constant(uint8_t op);
  bool build_container(uint8_t op);
  bool use_memo(uint8_t op);
  bool call(uint8_t op);

  void push_global();
  void reduce();
  void load_storage();

  Id unwrapped(Id top) const;
  std::map<std::string, PickledTensor> tensors(Id top) const;
  PickledTensor tensor(const Object& object, std::string_view name) const;
  std::vector<int64_t> numbers(Id id) const;

  std::string_view take(size_t count);
  std::string_view line();
  uint64_t number(size_t bytes);  // little endian, unsigned
  int64_t signed_number(size_t bytes);

  void push(Id id);
  void push_new(Object object);
  Id pop();
  std::vector<Id> pop_to_mark();
  Object& top_of(Kind kind, const char* opcode);
  void expect(bool holds, const char* rule) const {
    check(holds, "{}: byte {} of its pickle: {}", what_, at_, rule);
  }

  std::string_view bytes_, what_;
  size_t at_ = 0;
  std::vector<Object> objects_;
  std::vector<Id> stack_;
  std::vector<size_t> marks_;
  std::unordered_map<uint32_t, Id> memo_;
};

std::string_view Machine::take(size_t count) {
  expect(count <= bytes_.size() - at_, "ends too early");
  const std::string_view part = bytes_.substr(at_, count);
  at_ += count;
  return part;
}

std::string_view Machine::line() {
  const size_t end = bytes_.find('\n', at_);
  expect(end != std::string_view::npos, "ends too early");
  const std::string_view text = take(end - at_);
  ++at_;
  return text;
}

uint64_t Machine::number(size_t bytes) {
  uint64_t value = 0;
  const std::string_view part = take(bytes);
  for (size_t i = 0; i < bytes; ++i) {
    value |= static_cast<uint64_t>(static_cast<uint8_t>(part[i])) << (8 * i);
  }
  return value;
}

int64_t Machine::signed_number(size_t bytes) {
  if (bytes == 0) return 0;
  const size_t unused = 64 - 8 * bytes;
  return static_cast<int64_t>(number(bytes) << unused) >> unused;
}

void Machine::push(Id id) {
  expect(stack_.size() < kMaxStack, "more on the stack than weights need");
  stack_.push_back(id);
}

void Machine::push_new(Object object) {
  expect(objects_.size() < kMaxObjects, "more objects than weights need");
  objects_.push_back(std::move(object));
  push(static_cast<Id>(objects_.size() - 1));
}

Id Machine::pop() {
  expect(stack_.size() > (marks_.empty() ? 0 : marks_.back()), "takes from an empty stack");
  const Id id = stack_.back();
  stack_.pop_back();
  return id;
}

std::vector<Id> Machine::pop_to_mark() {
  expect(!marks_.empty(), "has no mark");
  const auto first = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
  std::vector<Id> items(first, stack_.end());
  stack_.erase(first, stack_.end());
  marks_.pop_back();
  return items;
}

Object& Machine::top_of(Kind kind, const char* rule) {
  const Id id = pop();
  stack_.push_back(id);
  expect(objects_[id].kind == kind, rule);
  return objects_[id];
}

bool Machine::push_constant(uint8_t op) {
  const auto integer = [this](int64_t value) { push_new({.kind = Kind::Int, .number = value}); };
  switch (op) {
    case 'N': push_new({}); return true;
    case 0x88: push_new({.kind = Kind::Bool, .number = 1}); return true;
    case 0x89: push_new({.kind = Kind::Bool}); return true;
    case 'J': integer(signed_number(4)); return true;
    case 'K': integer(static_cast<int64_t>(number(1))); return true;
    case 'M': integer(static_cast<int64_t>(number(2))); return true;
    case 0x8a: {  // LONG1
      const uint64_t bytes = number(1);
      expect(bytes <= 8, "an integer of more than 64 bits");
      integer(signed_number(bytes));
      return true;
    }
    case 'G': take(8), push_new({.kind = Kind::Float}); return true;
    case 'X': push_new({.kind = Kind::String, .text = take(number(4))}); return true;
    case 'U': push_new({.kind = Kind::String, .text = take(number(1))}); return true;
    default: return false;
  }
}

bool Machine::build_container(uint8_t op) {
  const auto pack = [this](Kind kind, std::vector<Id> items) {
    push_new({.kind = kind, .items = std::move(items)});
  };
  const auto extend = [this](Kind kind, const std::vector<Id>& items) {
    auto& to = top_of(kind, "puts items into something else").items;
    expect(kind != Kind::Dict || items.size() % 2 == 0, "a key without a value");
    to.insert(to.end(), items.begin(), items.end());
  };
  const auto pop_many = [this](size_t count) {
    std::vector<Id> items(count);
    while (count > 0) items[--count] = pop();
    return items;
  };
  switch (op) {
    case '(':
      expect(marks_.size() < kMaxMarks, "nests deeper than weights do");
      marks_.push_back(stack_.size());
      return true;
    case ')': pack(Kind::Tuple, {}); return true;
    case 0x85: pack(Kind::Tuple, pop_many(1)); return true;
    case 0x86: pack(Kind::Tuple, pop_many(2)); return true;
    case 0x87: pack(Kind::Tuple, pop_many(3)); return true;
    case 't': pack(Kind::Tuple, pop_to_mark()); return true;
    case ']':
    case 0x8f: pack(Kind::List, {}); return true;  // EMPTY_SET: filled by nothing we allow
    case '}': pack(Kind::Dict, {}); return true;
    case 'a': extend(Kind::List, pop_many(1)); return true;
    case 'e': extend(Kind::List, pop_to_mark()); return true;
    case 's': extend(Kind::Dict, pop_many(2)); return true;
    case 'u': extend(Kind::Dict, pop_to_mark()); return true;
    default: return false;
  }
}

bool Machine::use_memo(uint8_t op) {
  switch (op) {
    case 'q':
    case 'r': {
      const auto key = static_cast<uint32_t>(number(op == 'q' ? 1 : 4));
      const Id id = pop();
      stack_.push_back(id);
      memo_[key] = id;
      expect(memo_.size() <= kMaxObjects, "remembers more than weights need");
      return true;
    }
    case 'h':
    case 'j': {
      const auto found = memo_.find(static_cast<uint32_t>(number(op == 'h' ? 1 : 4)));
      expect(found != memo_.end(), "recalls what it never remembered");
      push(found->second);
      return true;
    }
    default: return false;
  }
}

bool Machine::call(uint8_t op) {
  switch (op) {
    case 'c': push_global(); return true;
    case 'R':
    case 0x81: reduce(); return true;
    case 'Q': load_storage(); return true;
    case 'b':  // BUILD: the state of a dict is torch's _metadata
      pop();
      top_of(Kind::Dict, "gives a state to something other than a dict");
      return true;
    default: return false;
  }
}

void Machine::push_global() {
  const std::string_view module = line();
  const std::string_view name = line();
  for (const Global& global : kGlobals) {
    if (global.module == module && global.name == name) {
      push_new({.kind = Kind::Global, .number = &global - kGlobals});
      return;
    }
  }
  fail(
      "{}: its pickle asks for '{}.{}', which weights do not need and which may do harm: refused, "
      "nothing was run; convert it to safetensors where you trust it",
      what_, shown(module), shown(name));
}

// REDUCE and NEWOBJ: callee, arguments → result.
void Machine::reduce() {
  const Object& arguments = objects_[pop()];
  const Object& callee = objects_[pop()];
  expect(callee.kind == Kind::Global && arguments.kind == Kind::Tuple, "calls what is no function");
  const auto& items = arguments.items;
  switch (kGlobals[callee.number].callee) {
    case Callee::Dict:
      expect(items.empty(), "OrderedDict with arguments");
      push_new({.kind = Kind::Dict});
      return;
    case Callee::Tensor:
      expect(items.size() >= 4 && objects_[items[0]].kind == Kind::Storage,
             "a tensor without a storage");
      push_new({.kind = Kind::Tensor, .items = {items.begin(), items.begin() + 4}});
      return;
    case Callee::Parameter:
      expect(!items.empty() && objects_[items[0]].kind == Kind::Tensor,
             "a parameter without a tensor");
      push(items[0]);
      return;
    case Callee::Storage: expect(false, "calls a storage type"); return;
  }
}

// BINPERSID: ('storage', type, key, location, numel).
void Machine::load_storage() {
  const Object& id = objects_[pop()];
  expect(id.kind == Kind::Tuple && id.items.size() == 5, "a storage without its five fields");
  const auto field = [&](size_t i) -> const Object& { return objects_[id.items[i]]; };
  const bool typed =
      field(1).kind == Kind::Global && kGlobals[field(1).number].callee == Callee::Storage;
  expect(field(0).text == "storage" && typed && field(2).kind == Kind::String &&
             field(4).kind == Kind::Int && field(4).number >= 0,
         "a storage with wrong fields");
  push_new({.kind = Kind::Storage,
            .dtype = kGlobals[field(1).number].dtype,
            .number = field(4).number,
            .text = field(2).text});
}

std::vector<int64_t> Machine::numbers(Id id) const {
  std::vector<int64_t> values;
  const Object& tuple = objects_[id];
  expect(tuple.kind == Kind::Tuple && tuple.items.size() <= kMaxRank, "a size that is no size");
  for (Id item : tuple.items) {
    expect(objects_[item].kind == Kind::Int, "a size that is no integer");
    values.push_back(objects_[item].number);
  }
  return values;
}

PickledTensor Machine::tensor(const Object& object, std::string_view name) const {
  check(object.kind == Kind::Tensor, "{}: '{}' is not a tensor", what_, shown(name));
  const Object& storage = objects_[object.items[0]];
  const Object& offset = objects_[object.items[1]];
  PickledTensor tensor{storage.dtype, std::string(storage.text), storage.number,
                       offset.number, numbers(object.items[2]),  numbers(object.items[3])};
  check(
      offset.kind == Kind::Int && offset.number >= 0 && tensor.size.size() == tensor.stride.size(),
      "{}: '{}' has an impossible offset or size", what_, shown(name));
  return tensor;
}

// The dict of tensors itself, where `top` wraps it.
Id Machine::unwrapped(Id top) const {
  const auto& items = objects_[top].items;
  for (const std::string_view wrapper : {"state_dict", "model"}) {
    for (size_t i = 0; i < items.size(); i += 2) {
      const Object& key = objects_[items[i]];
      const bool wraps = key.kind == Kind::String && key.text == wrapper;
      if (wraps && objects_[items[i + 1]].kind == Kind::Dict) return items[i + 1];
    }
  }
  return top;
}

std::map<std::string, PickledTensor> Machine::tensors(Id top) const {
  check(objects_[top].kind == Kind::Dict, "{}: holds no dict of tensors", what_);
  const auto& items = objects_[unwrapped(top)].items;
  check(items.size() / 2 <= kMaxTensors, "{}: {} tensors, at most {} are read", what_,
        items.size() / 2, kMaxTensors);
  std::map<std::string, PickledTensor> found;
  for (size_t i = 0; i < items.size(); i += 2) {
    const Object& key = objects_[items[i]];
    const bool printable =
        std::all_of(key.text.begin(), key.text.end(), [](char c) { return c > 0x20 && c < 0x7F; });
    check(key.kind == Kind::String && !key.text.empty() && key.text.size() <= kMaxName && printable,
          "{}: '{}' is not a tensor's name", what_, shown(key.text));
    const bool added = found.emplace(key.text, tensor(objects_[items[i + 1]], key.text)).second;
    check(added, "{}: '{}' stands twice", what_, key.text);
  }
  return found;
}

std::map<std::string, PickledTensor> Machine::run() {
  while (true) {
    const auto op = static_cast<uint8_t>(number(1));
    if (op == 0x80) {  // PROTO
      expect(number(1) == 2, "protocol 2 is read");
    } else if (op == '.') {  // STOP
      expect(marks_.empty() && stack_.size() == 1, "ends with something other than one object");
      return tensors(stack_.back());
    } else if (!push_constant(op) && !build_container(op) && !use_memo(op) && !call(op)) {
      fail("{}: byte {} of its pickle is the opcode 0x{:02x}, which weights do not need: refused",
           what_, at_ - 1, op);
    }
  }
}

}  // namespace

std::map<std::string, PickledTensor> parse_pickle(std::span<const std::byte> bytes,
                                                  std::string_view what) {
  return Machine(bytes, what).run();
}

}  // namespace ng
