// What do the ops mean that look at one element at a time, and the leaves?
#include <algorithm>
#include <limits>

#include "base/error.h"
#include "ir/evaluation.h"
#include "tensor/math.h"

namespace ng {
namespace {

template <class Function>
Results map_one(const Evaluation& e, Function function) {
  const Elements<float> x(e.in[0]);
  return make<float>(e.types[0], [&](float* out) {
    for (int64_t i = 0; i < x.size(); ++i) out[i] = function(x[i]);
  });
}

// s32 is computed in 64 bits, where nothing overflows, and wraps when it is stored.
template <class T, class Wide, class Function>
Results map_typed(const Evaluation& e, Function function) {
  const Elements<T> a(e.in[0]), b(e.in[1]);
  return make<T>(e.types[0], [&](T* out) {
    for (int64_t i = 0; i < a.size(); ++i)
      out[i] = static_cast<T>(function(Wide{a[i]}, Wide{b[i]}));
  });
}
template <class Function>
Results map_two(const Evaluation& e, Function function) {
  if (e.types[0].dtype == DType::s32) return map_typed<int32_t, int64_t>(e, function);
  return map_typed<float, float>(e, function);
}

struct Divide {
  float operator()(float a, float b) const { return a / b; }
  int64_t operator()(int64_t a, int64_t b) const { return b == 0 ? -1 : a / b; }  // as XLA
};

// How elements of each type become a double and come from one: rounded to nearest even through f32
// for the short floats, towards zero and saturating for integers, NaN to 0.
template <class T>
struct Codec {
  using Bits = T;
  static double get(T x) { return static_cast<double>(x); }
  static T put(double x) {
    if constexpr (!std::numeric_limits<T>::is_integer) {
      return static_cast<T>(x);
    } else {
      constexpr T low = std::numeric_limits<T>::min(), high = std::numeric_limits<T>::max();
      if (x >= static_cast<double>(high)) return high;
      if (x <= static_cast<double>(low)) return low;
      return x == x ? static_cast<T>(x) : T{0};
    }
  }
};
struct F16 {
  using Bits = uint16_t;
  static double get(uint16_t x) { return f16_to_f32(x); }
  static uint16_t put(double x) { return f32_to_f16(static_cast<float>(x)); }
};
struct BF16 {
  using Bits = uint16_t;
  static double get(uint16_t x) { return bf16_to_f32(x); }
  static uint16_t put(double x) { return f32_to_bf16(static_cast<float>(x)); }
};

template <class Function>
auto with_codec(DType dtype, Function function) {
  switch (dtype) {
    case DType::f32: return function(Codec<float>());
    case DType::f16: return function(F16());
    case DType::bf16: return function(BF16());
    case DType::f64: return function(Codec<double>());
    case DType::s8: return function(Codec<int8_t>());
    case DType::u8: return function(Codec<uint8_t>());
    case DType::s32: return function(Codec<int32_t>());
    case DType::s64: break;
  }
  return function(Codec<int64_t>());
}

using Recode = void (*)(const std::byte* from, int64_t n, std::byte* out);
template <class From, class To>
void recode(const std::byte* from, int64_t n, std::byte* out) {
  for (int64_t i = 0; i < n; ++i) {
    typename From::Bits bits;
    std::memcpy(&bits, from + static_cast<size_t>(i) * sizeof(bits), sizeof(bits));
    const typename To::Bits result = To::put(From::get(bits));
    std::memcpy(out + static_cast<size_t>(i) * sizeof(result), &result, sizeof(result));
  }
}

Results convert(const Tensor& from, const Type& type, ThreadPool* threads) {
  if (from.type.dtype == type.dtype) return {from};
  constexpr int64_t kBlock = 1024;
  const Recode block_of = with_codec(from.type.dtype, [&](auto source) {
    return with_codec(type.dtype,
                      [](auto to) -> Recode { return recode<decltype(source), decltype(to)>; });
  });
  const size_t from_width = byte_size(from.type.dtype), to_width = byte_size(type.dtype);
  const int64_t count = element_count(type.shape);
  return make<std::byte>(type, [&](std::byte* out) {
    parallel(threads, (count + kBlock - 1) / kBlock, [&](int64_t block) {
      const auto first = static_cast<size_t>(block * kBlock);
      const int64_t n = std::min(kBlock, count - block * kBlock);
      block_of(from.data.data() + first * from_width, n, out + first * to_width);
    });
  });
}

}  // namespace

Results evaluate_constant(const Evaluation& e) {
  const std::vector<double>& values = e.node.attrs.values;
  const Tensor wide = Tensor::of<double>(DType::f64, e.types[0].shape, values);
  return convert(wide, e.types[0], nullptr);
}

Results evaluate_iota(const Evaluation& e) {
  const Shape& shape = e.types[0].shape;
  const auto axis = static_cast<size_t>(e.node.attrs.axis);
  const int64_t stride =
      element_count(Shape(shape.begin() + static_cast<long>(axis) + 1, shape.end()));
  return make<int32_t>(e.types[0], [&](int32_t* out) {
    const int64_t count = element_count(shape);
    for (int64_t i = 0; i < count; ++i) {
      out[i] = static_cast<int32_t>(i / stride % shape[axis].size);
    }
  });
}

Results evaluate_frequencies(const Evaluation& e) {
  const auto size = static_cast<size_t>(e.types[0].size(0));
  return make<float>(e.types[0], [&](float* out) { sinusoidal_frequencies({out, size}); });
}

Results evaluate_add(const Evaluation& e) {
  return map_two(e, [](auto a, auto b) { return a + b; });
}
Results evaluate_subtract(const Evaluation& e) {
  return map_two(e, [](auto a, auto b) { return a - b; });
}
Results evaluate_multiply(const Evaluation& e) {
  return map_two(e, [](auto a, auto b) { return a * b; });
}
Results evaluate_maximum(const Evaluation& e) {
  return map_two(e, [](auto a, auto b) { return a > b ? a : b; });
}
Results evaluate_minimum(const Evaluation& e) {
  return map_two(e, [](auto a, auto b) { return a < b ? a : b; });
}
Results evaluate_divide(const Evaluation& e) { return map_two(e, Divide()); }
Results evaluate_exp(const Evaluation& e) { return map_one(e, exp_f32); }
Results evaluate_log(const Evaluation& e) { return map_one(e, log_f32); }
Results evaluate_erf(const Evaluation& e) { return map_one(e, erf_f32); }
Results evaluate_sin(const Evaluation& e) { return map_one(e, sin_f32); }
Results evaluate_cos(const Evaluation& e) { return map_one(e, cos_f32); }
Results evaluate_sqrt(const Evaluation& e) {
  return map_one(e, [](float x) { return std::sqrt(x); });
}

Results evaluate_select_less(const Evaluation& e) {
  const Elements<int32_t> a(e.in[0]), b(e.in[1]);
  const size_t width = byte_size(e.types[0].dtype);
  return make<std::byte>(e.types[0], [&](std::byte* out) {
    for (int64_t i = 0; i < a.size(); ++i) {
      const size_t at = static_cast<size_t>(i) * width;
      std::memcpy(out + at, e.in[a[i] < b[i] ? 2 : 3].data.data() + at, width);
    }
  });
}

Results evaluate_convert(const Evaluation& e) { return convert(e.in[0], e.types[0], e.threads); }

}  // namespace ng
