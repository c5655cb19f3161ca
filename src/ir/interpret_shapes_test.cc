#include "ir/test_run.h"

namespace ng::testing {
namespace {

using Index = std::vector<int64_t>;

// Calls body(index, position) for every index of `shape` in row-major order.
void each_index(const Shape& shape, const std::function<void(const Index&, size_t)>& body) {
  Index index(shape.size());
  for (int64_t at = 0; at < element_count(shape); ++at) {
    int64_t rest = at;
    for (size_t axis = shape.size(); axis-- > 0;) {
      index[axis] = rest % shape[axis].size;
      rest /= shape[axis].size;
    }
    body(index, static_cast<size_t>(at));
  }
}
size_t position(const Shape& shape, const Index& index) {
  int64_t at = 0;
  for (size_t axis = 0; axis < shape.size(); ++axis) at = at * shape[axis].size + index[axis];
  return static_cast<size_t>(at);
}
Shape random_shape(Random& random, int64_t rank) {
  Shape shape;
  for (int64_t i = 0; i < rank; ++i) shape.emplace_back(pick(random, 1, 5));
  return shape;
}
// Elements 0, 1, 2, … of a type, as bytes that tell them apart (modulo 251).
Tensor counting(DType dtype, const Shape& shape) {
  std::vector<std::byte> bytes(static_cast<size_t>(byte_count({dtype, shape})));
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>((i / byte_size(dtype) * 3 + i % byte_size(dtype)) % 251);
  }
  return Tensor::own({dtype, shape}, bytes);
}
// Element `i` of a tensor as its bytes.
std::vector<std::byte> element(const Tensor& tensor, size_t i) {
  const size_t width = byte_size(tensor.type.dtype);
  const auto part = tensor.data.subspan(i * width, width);
  return {part.begin(), part.end()};
}

class Shapes : public ::testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Widths, Shapes,
                         ::testing::Values(DType::s8, DType::bf16, DType::f32, DType::s64));

TEST_P(Shapes, TransposePermutesAxes) {
  Random random(3);
  for (int round = 0; round < 30; ++round) {
    const Shape shape = random_shape(random, pick(random, 0, 4));
    Index dims(shape.size());
    for (size_t i = 0; i < dims.size(); ++i) dims[i] = static_cast<int64_t>(i);
    std::shuffle(dims.begin(), dims.end(), random);
    const Tensor x = unaligned(counting(GetParam(), shape));
    const Tensor y =
        run({x}, [&](Graph& g, auto& in) { return std::vector{transpose(g, in[0], dims)}; })[0];
    each_index(y.type.shape, [&](const Index& index, size_t at) {
      Index source(index.size());
      for (size_t i = 0; i < dims.size(); ++i) source[static_cast<size_t>(dims[i])] = index[i];
      ASSERT_EQ(element(y, at), element(x, position(shape, source)));
    });
  }
}

TEST_P(Shapes, BroadcastRepeatsAlongNewAndUnitAxes) {
  Random random(4);
  for (int round = 0; round < 30; ++round) {
    const Shape to = random_shape(random, pick(random, 0, 4));
    Shape from;
    Index dims;
    for (size_t i = 0; i < to.size(); ++i) {
      if (pick(random, 0, 1) == 0) continue;
      dims.push_back(static_cast<int64_t>(i));
      from.push_back(pick(random, 0, 1) == 0 ? Dim(1) : to[i]);
    }
    const Tensor x = counting(GetParam(), from);
    const Tensor y =
        run({x}, [&](Graph& g, auto& in) { return std::vector{broadcast(g, in[0], to, dims)}; })[0];
    each_index(to, [&](const Index& index, size_t at) {
      Index source;
      for (size_t i = 0; i < dims.size(); ++i) {
        source.push_back(from[i].size == 1 ? 0 : index[static_cast<size_t>(dims[i])]);
      }
      ASSERT_EQ(element(y, at), element(x, position(from, source)));
    });
  }
}

TEST_P(Shapes, SlicesOfAConcatenationAreItsParts) {
  Random random(5);
  ThreadPool threads(2);
  for (int round = 0; round < 30; ++round) {
    const int64_t rank = pick(random, 1, 4), axis = pick(random, 0, rank - 1);
    const Shape shape = random_shape(random, rank);
    std::vector<Tensor> parts;
    for (int64_t i = pick(random, 1, 4); i > 0; --i) {
      Shape part = shape;
      part[static_cast<size_t>(axis)] = pick(random, 0, 4);
      parts.push_back(counting(GetParam(), part));
    }
    const auto rejoin = [&](Graph& g, auto& in) {
      const Value whole = concatenate(g, in, axis);
      std::vector<Value> out;
      int64_t begin = 0;
      for (const Tensor& part : parts) {
        const int64_t size = part.type.size(static_cast<int>(axis));
        out.push_back(slice(g, whole, axis, begin, size));
        begin += size;
      }
      return out;
    };
    const std::vector<Tensor> found = run(parts, rejoin, &threads);
    for (size_t i = 0; i < parts.size(); ++i) EXPECT_TRUE(same_bytes(found[i], parts[i]));
  }
}

TEST_P(Shapes, PackPutsSixteenRowsSideBySideAndUnpackUndoesIt) {
  Random random(6);
  for (const int64_t n : {1, 15, 16, 17, 40}) {
    const int64_t k = pick(random, 1, 9);
    const Tensor x = counting(GetParam(), {n, k});
    const std::vector<Tensor> out = run({x}, [&](Graph& g, auto& in) {
      const Value packed = pack(g, in[0]);
      return std::vector{packed, unpack(g, packed, n)};
    });
    EXPECT_TRUE(same_bytes(out[1], x));
    each_index(out[0].type.shape, [&](const Index& at, size_t i) {
      const int64_t row = at[0] * 16 + at[2];
      const std::vector<std::byte> zero(byte_size(GetParam()));
      const auto expected = row < n ? element(x, static_cast<size_t>(row * k + at[1])) : zero;
      ASSERT_EQ(element(out[0], i), expected);
    });
  }
}

TEST(Interpret, ReshapeKeepsTheBytes) {
  const Tensor x = counting(DType::f32, {2, 6});
  const Tensor y = run({x}, [](Graph& g, auto& in) {
    return std::vector{reshape(g, in[0], {3, 4, 1})};
  })[0];
  EXPECT_EQ(items<float>(y).size(), 12U);
  EXPECT_TRUE(std::equal(x.data.begin(), x.data.end(), y.data.begin()));
}

TEST(Interpret, GatherRowsClampsIdsIntoTheTable) {
  const auto gather = [](Graph& g, auto& in) { return std::vector{gather_rows(g, in[0], in[1])}; };
  const Tensor table = f32({3, 2}, {0, 1, 10, 11, 20, 21});
  const Tensor ids = s32({2, 2}, {2, -5, 1, 99});
  const Tensor found = run({table, ids}, gather)[0];
  EXPECT_EQ(found.type, (Type{DType::f32, {2, 2, 2}}));
  EXPECT_EQ(items<float>(found), (std::vector<float>{20, 21, 0, 1, 10, 11, 20, 21}));
  EXPECT_EQ(items<float>(run({f32({0, 2}, {}), ids}, gather)[0]), std::vector<float>(8));
}

TEST(Interpret, WriteRowsInOrderSkippingIndicesOutside) {
  const Tensor state = f32({3, 2}, {0, 0, 1, 1, 2, 2});
  const Tensor rows = f32({4, 2}, {5, 5, 6, 6, 7, 7, 8, 8});
  const Tensor index = s32({4}, {1, -1, 1, 3});
  const Tensor found = run({state, rows, index}, [](Graph& g, auto& in) {
    return std::vector{write_rows(g, in[0], in[1], in[2])};
  })[0];
  EXPECT_EQ(items<float>(found), (std::vector<float>{0, 0, 7, 7, 2, 2}));
  EXPECT_EQ(items<float>(state), (std::vector<float>{0, 0, 1, 1, 2, 2}));
}

}  // namespace
}  // namespace ng::testing
