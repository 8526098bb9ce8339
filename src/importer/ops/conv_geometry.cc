// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "importer/ops/conv.h"

namespace slalom::importer {
namespace {

// check_kernel compares the attribute kernel_shape, if there is one, with the weights.
std::span<const std::int64_t> check_kernel(const Node& node, const Shape& w) {
  const std::span<const std::int64_t> kernel = std::span(w).subspan(2);
  const auto* given = node.attribute<std::vector<std::int64_t>>("kernel_shape");
  if (given != nullptr && !given->empty() &&
      !std::equal(given->begin(), given->end(), kernel.begin(), kernel.end())) {
    fail("kernel_shape is " + shape_text(*given) + ", but the weights have the shape " +
         shape_text(w));
  }
  return kernel;
}

std::int64_t check_group(const Node& node, const Shape& x, const Shape& w) {
  if (x.size() < 3 || x.size() != w.size()) {
    fail("the input of shape " + shape_text(x) + " and the weights of shape " + shape_text(w) +
         " do not fit");
  }
  const std::int64_t groups = node.int_or("group", 1);
  if (groups < 1 || w[0] < 1 || w[1] < 1 || x[1] < 1) fail("it has no channels");
  return groups;
}

}  // namespace

ConvGeometry conv_geometry(const Node& node, const Shape& x, const Shape& w) {
  const std::int64_t groups = check_group(node, x, w);
  if (x[1] % groups != 0 || x[1] / groups != w[1] || w[0] % groups != 0) {
    fail("the input of shape " + shape_text(x) + " and the weights of shape " + shape_text(w) +
         " do not fit " + std::to_string(groups) + " groups");
  }
  ConvGeometry g{.window = make_window(node, std::span(x).subspan(2), check_kernel(node, w), false),
                 .batch = x[0],
                 .groups = groups,
                 .group_in = w[1],
                 .group_out = w[0] / groups};
  return g;
}

ConvGeometry conv_transpose_geometry(const Node& node, const Shape& x, const Shape& w) {
  const std::int64_t groups = check_group(node, x, w);
  if (x[1] != w[0] || x[1] % groups != 0) {
    fail("the input of shape " + shape_text(x) + " and the weights of shape " + shape_text(w) +
         " do not fit " + std::to_string(groups) + " groups");
  }
  if (groups > (std::int64_t{1} << 30) / w[1]) fail("it has too many channels");
  ConvGeometry g{
      .window = make_transposed_window(node, std::span(x).subspan(2), check_kernel(node, w)),
      .batch = x[0],
      .groups = groups,
      .group_in = x[1] / groups,
      .group_out = w[1]};
  return g;
}

void fill_columns(const Window& w, const float* image, std::int64_t k, std::int64_t p0,
                  std::int64_t count, float* dst) {
  const std::int64_t k2 = k % w.kernel[2];
  const std::int64_t k1 = k / w.kernel[2] % w.kernel[1];
  const std::int64_t k0 = k / (w.kernel[2] * w.kernel[1]) % w.kernel[0];
  const float* plane = image + k / w.taps() * w.in_size();
  const std::int64_t shift2 = k2 * w.dilation[2] - w.pad_begin[2];
  std::int64_t p = p0;
  while (p < p0 + count) {
    const std::int64_t o2 = p % w.out[2];
    const std::int64_t o1 = p / w.out[2] % w.out[1];
    const std::int64_t o0 = p / (w.out[2] * w.out[1]);
    const std::int64_t run = std::min(w.out[2] - o2, p0 + count - p);
    const std::int64_t i0 = o0 * w.stride[0] + k0 * w.dilation[0] - w.pad_begin[0];
    const std::int64_t i1 = o1 * w.stride[1] + k1 * w.dilation[1] - w.pad_begin[1];
    float* to = dst + (p - p0);
    p += run;
    if (i0 < 0 || i0 >= w.in[0] || i1 < 0 || i1 >= w.in[1]) {
      std::fill_n(to, run, 0.0F);
      continue;
    }
    const float* line = plane + (i0 * w.in[1] + i1) * w.in[2];
    // Outputs [low, high) of this run lie inside the input line.
    const std::int64_t step = w.stride[2];
    const std::int64_t first = o2 * step + shift2;
    const std::int64_t low = first >= 0 ? 0 : std::min(run, (-first + step - 1) / step);
    const std::int64_t high =
        first >= w.in[2] ? low : std::clamp((w.in[2] - 1 - first) / step + 1, low, run);
    std::fill_n(to, low, 0.0F);
    if (step == 1) {
      std::copy_n(line + first + low, high - low, to + low);
    } else {
      for (std::int64_t i = low; i < high; ++i) to[i] = line[first + i * step];
    }
    std::fill_n(to + high, run - high, 0.0F);
  }
}

}  // namespace slalom::importer
