// SPDX-License-Identifier: Apache-2.0
// The geometry of the convolutions, for their kernels and for fold().
#pragma once

#include <cstdint>

#include "importer/ops/op.h"
#include "importer/ops/window.h"

namespace slalom::importer {

// ConvGeometry: x is [batch, groups * group_in, spatial...], w is [groups * group_out, group_in,
// kernel...] for Conv and [groups * group_in, group_out, kernel...] for ConvTranspose, y is
// [batch, groups * group_out, spatial...].
struct ConvGeometry {
  Window window;
  std::int64_t batch = 0;
  std::int64_t groups = 1;
  std::int64_t group_in = 0;
  std::int64_t group_out = 0;

  [[nodiscard]] std::int64_t in_channels() const noexcept { return groups * group_in; }
  [[nodiscard]] std::int64_t out_channels() const noexcept { return groups * group_out; }
  // Products summed into one output.
  [[nodiscard]] std::int64_t depth() const noexcept { return group_in * window.taps(); }
};

// conv_geometry checks the shapes of a Conv; fails if they do not fit.
ConvGeometry conv_geometry(const Node& node, const Shape& x, const Shape& w);
// The same for ConvTranspose, where window.in belongs to y and window.out to x.
ConvGeometry conv_transpose_geometry(const Node& node, const Shape& x, const Shape& w);

// fill_columns writes row k of the im2col matrix of one image and group: its element p is the
// input under tap k (channel-major, then kernel position) of output position p, for p in
// [p0, p0 + count), and 0 where that is padding. `image` points at the group's first channel.
void fill_columns(const Window& w, const float* image, std::int64_t k, std::int64_t p0,
                  std::int64_t count, float* dst);

// The operators of this file and its neighbours.
OpDef conv_op();
OpDef conv_transpose_op();
OpDef qlinear_conv_op();

}  // namespace slalom::importer
