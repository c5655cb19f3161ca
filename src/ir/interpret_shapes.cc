// What do the ops mean that only move elements?
#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>

#include "base/error.h"
#include "ir/build.h"
#include "ir/evaluation.h"

namespace ng {
namespace {

using Index = std::array<int64_t, 4>;
constexpr int64_t kStrip = 8;  // elements

Index sizes(const Shape& shape) {  // leading ones make it four
  NG_CHECK(shape.size() <= 4, "rank {}", shape.size());
  Index index = {1, 1, 1, 1};
  for (size_t i = 0; i < shape.size(); ++i) index[4 - shape.size() + i] = shape[i].size;
  return index;
}

Index row_major(const Index& shape) {
  return {shape[1] * shape[2] * shape[3], shape[2] * shape[3], shape[3], 1};
}

// Elements to copy: [i] goes from from_offset + i · from to to_offset + i · to.
struct Walk {
  Index shape, to, from;
  int64_t to_offset = 0, from_offset = 0;
};

// In strips, so that transposing reads each of a strip's lines of cache once.
template <size_t kWidth>
void copy_plane(const Walk& w, int64_t i, const std::byte* from, std::byte* to) {
  const int64_t strip = w.from[3] == 1 ? w.shape[3] : kStrip;
  for (int64_t j = 0; j < w.shape[1]; ++j) {
    for (int64_t begin = 0; begin < w.shape[3]; begin += strip) {
      const int64_t end = std::min(begin + strip, w.shape[3]);
      for (int64_t k = 0; k < w.shape[2]; ++k) {
        const int64_t source = w.from_offset + i * w.from[0] + j * w.from[1] + k * w.from[2];
        const int64_t target = w.to_offset + i * w.to[0] + j * w.to[1] + k * w.to[2];
        for (int64_t l = begin; l < end; ++l) {
          std::memcpy(to + static_cast<size_t>(target + l * w.to[3]) * kWidth,
                      from + static_cast<size_t>(source + l * w.from[3]) * kWidth, kWidth);
        }
      }
    }
  }
}

void copy(const Walk& walk, const Tensor& from, std::byte* to, ThreadPool* threads) {
  const std::byte* source = from.data.data();
  const size_t width = byte_size(from.type.dtype);
  parallel(threads, walk.shape[0], [&](int64_t i) {
    switch (width) {
      case 1: return copy_plane<1>(walk, i, source, to);
      case 2: return copy_plane<2>(walk, i, source, to);
      case 4: return copy_plane<4>(walk, i, source, to);
      default: return copy_plane<8>(walk, i, source, to);
    }
  });
}

Results copied(const Evaluation& e, const Walk& walk) {
  return make<std::byte>(e.types[0], [&](std::byte* out) { copy(walk, e.in[0], out, e.threads); });
}

// From a matrix [n, k] to its panels [⌈n/16⌉, k, 16]: the full ones, then the last.
std::array<Walk, 2> panel_walks(int64_t n, int64_t k) {
  const int64_t full = n / kPackWidth, panel = kPackWidth * k;
  return {Walk{{full, 1, k, kPackWidth}, {panel, 0, kPackWidth, 1}, {panel, 0, 1, k}, 0, 0},
          Walk{{1, 1, k, n % kPackWidth},
               {0, 0, kPackWidth, 1},
               {0, 0, 1, k},
               full * panel,
               full * panel}};
}

size_t row_bytes(const Tensor& table) {
  const Shape rest(table.type.shape.begin() + 1, table.type.shape.end());
  return static_cast<size_t>(byte_count(Type{table.type.dtype, rest}));
}

}  // namespace

Results evaluate_broadcast(const Evaluation& e) {
  const Index shape = sizes(e.types[0].shape);
  Walk walk{shape, row_major(shape), {}};
  const std::vector<int64_t>& dims = e.node.attrs.dims;
  const Index from = row_major(sizes(e.in[0].type.shape));
  for (size_t i = 0; i < dims.size(); ++i) {
    const size_t to_axis = 4 - e.types[0].shape.size() + static_cast<size_t>(dims[i]);
    if (e.in[0].type.shape[i].size != 1) walk.from[to_axis] = from[4 - dims.size() + i];
  }
  return copied(e, walk);
}

Results evaluate_reshape(const Evaluation& e) {
  return {Tensor{e.types[0], e.in[0].owner, e.in[0].data}};
}

Results evaluate_transpose(const Evaluation& e) {
  const Index shape = sizes(e.types[0].shape), from = row_major(sizes(e.in[0].type.shape));
  Walk walk{shape, row_major(shape), {}};
  const std::vector<int64_t>& dims = e.node.attrs.dims;
  const size_t lead = 4 - dims.size();
  for (size_t i = 0; i < dims.size(); ++i) {
    walk.from[lead + i] = from[lead + static_cast<size_t>(dims[i])];
  }
  return copied(e, walk);
}

Results evaluate_concatenate(const Evaluation& e) {
  const size_t axis = 4 - e.types[0].shape.size() + static_cast<size_t>(e.node.attrs.axis);
  return make<std::byte>(e.types[0], [&](std::byte* out) {
    Walk walk{{}, row_major(sizes(e.types[0].shape)), {}};
    for (const Tensor& part : e.in) {
      walk.shape = sizes(part.type.shape);
      walk.from = row_major(walk.shape);
      copy(walk, part, out, e.threads);
      walk.to_offset += walk.shape[axis] * walk.to[axis];
    }
  });
}

Results evaluate_slice(const Evaluation& e) {
  const size_t axis = 4 - e.types[0].shape.size() + static_cast<size_t>(e.node.attrs.axis);
  const Index shape = sizes(e.types[0].shape), from = row_major(sizes(e.in[0].type.shape));
  return copied(e, Walk{shape, row_major(shape), from, 0, e.node.attrs.begin * from[axis]});
}

Results evaluate_pack(const Evaluation& e) {
  return make<std::byte>(e.types[0], [&](std::byte* out) {
    for (const Walk& walk : panel_walks(e.in[0].type.size(0), e.in[0].type.size(1))) {
      copy(walk, e.in[0], out, e.threads);
    }
  });
}

Results evaluate_unpack(const Evaluation& e) {
  return make<std::byte>(e.types[0], [&](std::byte* out) {
    for (Walk walk : panel_walks(e.types[0].size(0), e.types[0].size(1))) {
      std::swap(walk.to, walk.from);
      copy(walk, e.in[0], out, e.threads);
    }
  });
}

Results evaluate_gather_rows(const Evaluation& e) {
  const Elements<int32_t> ids(e.in[1]);
  const int64_t rows = e.in[0].type.size(0);
  const size_t bytes = row_bytes(e.in[0]);
  return make<std::byte>(e.types[0], [&](std::byte* out) {
    if (rows == 0 || bytes == 0) return;
    for (int64_t i = 0; i < ids.size(); ++i) {
      const auto row = static_cast<size_t>(std::clamp<int64_t>(ids[i], 0, rows - 1));
      std::memcpy(out + static_cast<size_t>(i) * bytes, e.in[0].data.data() + row * bytes, bytes);
    }
  });
}

Results evaluate_write_rows(const Evaluation& e) {
  const Elements<int32_t> index(e.in[2]);
  const int64_t rows = e.types[0].size(0);
  const size_t bytes = row_bytes(e.in[0]);
  return make<std::byte>(e.types[0], [&](std::byte* out) {
    std::copy(e.in[0].data.begin(), e.in[0].data.end(), out);
    for (int64_t i = 0; i < index.size() && bytes != 0; ++i) {
      if (index[i] < 0 || index[i] >= rows) continue;
      const std::byte* row = e.in[1].data.data() + static_cast<size_t>(i) * bytes;
      std::memcpy(out + static_cast<size_t>(index[i]) * bytes, row, bytes);
    }
  });
}

}  // namespace ng
