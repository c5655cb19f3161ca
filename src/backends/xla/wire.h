// How do the bytes of a module become messages, types become shapes, and back?
#pragma once

#include <hlo.pb.h>

#include <span>
#include <string>
#include <string_view>

#include "ir/graph.h"

namespace ng {

// At most kModuleBytes, and no more messages than a graph's nodes can need, counted before any is
// made; what is no HloModuleProto: User, naming `what`.
hlo::Module parse_module(std::string_view bytes, std::string_view what);
inline constexpr size_t kModuleBytes = size_t{64} << 20;

std::string to_bytes(const google::protobuf::MessageLite& message);  // one form for one message

// Row-major, with a layout, without padding or dynamic sizes.
void set_shape(hlo::Shape& shape, const Type& type);
void set_mask_shape(hlo::Shape& shape, const Shape& dims);  // PRED, which DType lacks
void set_tuple_shape(hlo::Shape& shape, std::span<const Type> types);

// The type whose shape this is, bounded by rule V5; whatever set_shape() would not write: User.
Type type_of(const hlo::Shape& shape);

// The opcode of an op that is one instruction with the op's own operands; "" for the others.
std::string_view opcode_of(Op op);

}  // namespace ng
