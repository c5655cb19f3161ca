// One linear of int8 weights and activations, to the bit. Pointers and sizes only, as
// kernels/kernels.h.
//
//   prepare     scale[j] = max|w[j,:]| / 127; q[j,i] = even(w[j,i] / scale[j]); a row of zeros: 0,
//   0 activation  of each row r: s[r] = max|a[r,:]| / 127; p[r,i] = even(a[r,i] / s[r]); likewise
//   acc[r,j]    = sum over i of p[r,i] · q[j,i], exact in s32 (k ≤ 65,536)
//   out[r,j]    = ((float(acc) · s[r]) · scale[j]) + bias[j], each operation rounded once
//
// even() rounds to nearest, ties to even. VNNI multiplies u8 by s8, so activations are stored as
// p + 128 and 128 · sum over i of q[j,i] is taken off again: the correction, made by prepare.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ng::tracer {

struct Int8Linear {
  const float* a;             // [rows, k]
  const int8_t* weights;      // element (j, i) at [j / 16][i / 4][j % 16][i % 4], filled with zeros
  const float* scales;        // [n]
  const int32_t* correction;  // [n], filled up to panels of 16
  const float* bias;          // [n]
  float* out;                 // [rows, n]
  int32_t* accumulators;      // [rows, n], or null
  uint8_t* quantized;         // scratch, [rows, k rounded up to 4]
  float* row_scales;          // scratch, [rows]
  int64_t rows, k, n;
};

bool int8_linear_supported() noexcept;  // AVX-512 VNNI
void int8_linear(const Int8Linear& linear) noexcept;

}  // namespace ng::tracer
