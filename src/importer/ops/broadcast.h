// SPDX-License-Identifier: Apache-2.0
// NumPy broadcasting (https://onnx.ai/onnx/repo-docs/Broadcasting.html) for any number of inputs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "importer/graph.h"

namespace slalom::importer {

// broadcast_shapes returns the common shape; fails if there is none.
Shape broadcast_shapes(const Shape& a, const Shape& b);

// broadcast_strides returns the step of each dimension of `to` through a tensor of shape `from`,
// 0 where it is repeated. REQUIRES: broadcast_shapes(from, to) == to.
std::vector<std::int64_t> broadcast_strides(const Shape& from, const Shape& to);

// strides_of returns the steps of a row-major tensor.
std::vector<std::int64_t> strides_of(const Shape& shape);

// walk_rows visits the rows (last dimension) of `shape` in order; for each it calls
// row(out_offset, {offset of each operand}), where operand i has the strides strides[i] and
// starts at element 0. A scalar is one row of one element.
template <std::size_t kOperands, class Row>
void walk_rows(const Shape& shape, const std::array<std::vector<std::int64_t>, kOperands>& strides,
               Row&& row) {
  const std::size_t outer = shape.empty() ? 0 : shape.size() - 1;
  std::int64_t rows = 1;
  for (std::size_t d = 0; d < outer; ++d) rows *= shape[d];
  const std::int64_t length = shape.empty() ? 1 : shape.back();
  if (length == 0) return;
  std::vector<std::int64_t> index(outer, 0);
  std::array<std::int64_t, kOperands> offsets{};
  for (std::int64_t r = 0; r < rows; ++r) {
    row(r * length, offsets);
    for (std::size_t d = outer; d-- > 0;) {
      for (std::size_t i = 0; i < kOperands; ++i) offsets[i] += strides[i][d];
      if (++index[d] < shape[d]) break;
      for (std::size_t i = 0; i < kOperands; ++i) offsets[i] -= strides[i][d] * shape[d];
      index[d] = 0;
    }
  }
}

// apply_binary computes out[i] = f(a[i], b[i]) under broadcasting of both to out's shape.
template <class In, class Out, class F>
void apply_binary(const Tensor& a, const Tensor& b, Tensor& out, F f) {
  const auto x = a.view<In>();
  const auto y = b.view<In>();
  const auto z = out.view<Out>();
  if (a.shape() == out.shape() && b.shape() == out.shape()) {
    for (std::size_t i = 0; i < z.size(); ++i) z[i] = f(x[i], y[i]);
    return;
  }
  const std::array<std::vector<std::int64_t>, 2> strides = {
      broadcast_strides(a.shape(), out.shape()), broadcast_strides(b.shape(), out.shape())};
  const std::int64_t length = out.shape().empty() ? 1 : out.shape().back();
  const std::int64_t sx = strides[0].empty() ? 0 : strides[0].back();
  const std::int64_t sy = strides[1].empty() ? 0 : strides[1].back();
  walk_rows<2>(out.shape(), strides, [&](std::int64_t at, const auto& offsets) {
    const In* px = x.data() + offsets[0];
    const In* py = y.data() + offsets[1];
    Out* pz = z.data() + at;
    if (sx == 1 && sy == 0) {  // most often: a scalar for each channel
      for (std::int64_t i = 0; i < length; ++i) pz[i] = f(px[i], py[0]);
    } else {
      for (std::int64_t i = 0; i < length; ++i) pz[i] = f(px[i * sx], py[i * sy]);
    }
  });
}

}  // namespace slalom::importer
