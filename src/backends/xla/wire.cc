#include "backends/xla/wire.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/wire_format_lite.h>

#include "base/error.h"
#include "ir/verify.h"

namespace ng {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

constexpr int kPred = 1, kS32 = 4, kF32 = 11, kTuple = 13, kBf16 = 16;  // xla.PrimitiveType
constexpr size_t kMessageLimit = 16 * kNodeLimit;
constexpr int kNestingLimit = 16;

// Takes from `left` one for every message inside the bytes of one of `type`; false when none is
// left. Damaged bytes end it early, as they end the parser.
bool count_messages(CodedInputStream& in, const Descriptor& type, size_t& left, int nesting) {
  while (const uint32_t tag = in.ReadTag()) {
    const FieldDescriptor* field = type.FindFieldByNumber(WireFormatLite::GetTagFieldNumber(tag));
    const bool is_message =
        field != nullptr && field->message_type() != nullptr &&
        WireFormatLite::GetTagWireType(tag) == WireFormatLite::WIRETYPE_LENGTH_DELIMITED;
    if (!is_message) {
      if (!WireFormatLite::SkipField(&in, tag)) return true;
      continue;
    }
    uint32_t size = 0;
    if (!in.ReadVarint32(&size)) return true;
    if (left-- == 0 || nesting == 0) return false;
    const CodedInputStream::Limit limit = in.PushLimit(static_cast<int>(size));
    if (!count_messages(in, *field->message_type(), left, nesting - 1)) return false;
    if (in.BytesUntilLimit() != 0) return true;
    in.PopLimit(limit);
  }
  return true;
}

int primitive_type(DType dtype) {
  switch (dtype) {
    case DType::f32: return kF32;
    case DType::s32: return kS32;
    case DType::bf16: return kBf16;
    default: NG_CHECK(false, "no HLO type for {}", name(dtype));
  }
  return 0;
}

DType dtype_of(int element_type) {
  for (const DType dtype : {DType::f32, DType::s32, DType::bf16}) {
    if (primitive_type(dtype) == element_type) return dtype;
  }
  fail("element type {} is not f32, bf16 or s32", element_type);
}

void set_array_shape(hlo::Shape& shape, int element_type, const Shape& dims) {
  shape.Clear();
  shape.set_element_type(element_type);
  hlo::Layout& layout = *shape.mutable_layout();
  layout.set_tail_padding_alignment_in_elements(1);
  for (size_t i = 0; i < dims.size(); ++i) {
    shape.add_dimensions(dims[i].size);
    shape.add_is_dynamic_dimension(false);
    layout.add_minor_to_major(static_cast<int64_t>(dims.size() - 1 - i));
  }
}

}  // namespace

hlo::Module parse_module(std::string_view bytes, std::string_view what) {
  check(bytes.size() <= kModuleBytes, "{}: {} bytes are above the limit of {}", what, bytes.size(),
        kModuleBytes);
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  CodedInputStream in(data, static_cast<int>(bytes.size()));
  size_t left = kMessageLimit;
  check(count_messages(in, *hlo::Module::descriptor(), left, kNestingLimit),
        "{}: more than {} messages, or nested deeper than {}", what, kMessageLimit, kNestingLimit);
  hlo::Module module;
  check(module.ParseFromArray(data, static_cast<int>(bytes.size())), "{}: no HloModuleProto", what);
  return module;
}

std::string to_bytes(const google::protobuf::MessageLite& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream out(&stream);
  out.SetSerializationDeterministic(true);
  NG_CHECK(message.SerializeToCodedStream(&out), "serialising a module");
  out.Trim();
  return bytes;
}

void set_shape(hlo::Shape& shape, const Type& type) {
  set_array_shape(shape, primitive_type(type.dtype), type.shape);
}

void set_mask_shape(hlo::Shape& shape, const Shape& dims) { set_array_shape(shape, kPred, dims); }

void set_tuple_shape(hlo::Shape& shape, std::span<const Type> types) {
  shape.Clear();
  shape.set_element_type(kTuple);
  for (const Type& type : types) set_shape(*shape.add_tuple_shapes(), type);
}

Type type_of(const hlo::Shape& shape) {
  Type type{dtype_of(shape.element_type()), {}};
  check(shape.dimensions_size() <= 4, "a shape of {} axes, at most 4", shape.dimensions_size());
  for (const int64_t size : shape.dimensions()) type.shape.emplace_back(size);
  check(is_bounded(type), "shape {} breaks rule V5", to_string(type));
  hlo::Shape plain;
  set_shape(plain, type);
  check(to_bytes(plain) == to_bytes(shape),
        "shape {} needs a row-major layout and no dynamic sizes", to_string(type));
  return type;
}

std::string_view opcode_of(Op op) {
  switch (op) {
    case Op::add:
    case Op::subtract:
    case Op::multiply:
    case Op::divide:
    case Op::maximum:
    case Op::minimum:
    case Op::log:
    case Op::sqrt:
    case Op::erf:
    case Op::convert:
    case Op::broadcast:
    case Op::reshape:
    case Op::transpose:
    case Op::concatenate:
    case Op::slice:
    case Op::iota:
    case Op::dot: return row(op).name;
    case Op::exp: return "exponential";
    case Op::sin: return "sine";
    case Op::cos: return "cosine";
    case Op::gather_rows: return "gather";
    case Op::all_reduce: return "all-reduce";
    default: return "";
  }
}

}  // namespace ng
