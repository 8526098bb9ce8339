// SPDX-License-Identifier: Apache-2.0
// The geometry of sliding windows, shared by convolutions and pools.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "importer/graph.h"

namespace slalom::importer {

inline constexpr std::size_t kMaxSpatial = 3;

// Window describes one to three spatial dimensions, right-aligned in arrays of three; missing
// leading dimensions have size 1, so kernels always loop over three.
struct Window {
  using Dims = std::array<std::int64_t, kMaxSpatial>;

  std::size_t rank = 0;
  Dims in{1, 1, 1};
  Dims out{1, 1, 1};
  Dims kernel{1, 1, 1};
  Dims stride{1, 1, 1};
  Dims dilation{1, 1, 1};
  Dims pad_begin{0, 0, 0};
  Dims pad_end{0, 0, 0};

  [[nodiscard]] std::int64_t in_size() const noexcept { return in[0] * in[1] * in[2]; }
  [[nodiscard]] std::int64_t out_size() const noexcept { return out[0] * out[1] * out[2]; }
  [[nodiscard]] std::int64_t taps() const noexcept { return kernel[0] * kernel[1] * kernel[2]; }

  // spatial returns the last `rank` entries of one of the arrays.
  [[nodiscard]] std::span<const std::int64_t> spatial(const Dims& dims) const noexcept {
    return std::span(dims).last(rank);
  }
};

// make_window reads strides, dilations, pads and auto_pad of a Conv or a pool over `in`, and
// computes `out`, rounded up with `ceil_mode` (but no window begins in the padding at the end).
// Fails unless every dimension is at least 1 and `kernel` fits the padded input.
Window make_window(const Node& node, std::span<const std::int64_t> in,
                   std::span<const std::int64_t> kernel, bool ceil_mode);

// make_transposed_window does the same for ConvTranspose over `in`: the result describes the
// convolution whose transpose it is, so its `out` is the node's input and its `in` the output.
Window make_transposed_window(const Node& node, std::span<const std::int64_t> in,
                              std::span<const std::int64_t> kernel);

// for_each_tap calls row(tap, out_offset, in_offset, count) for every run of outputs along the
// last dimension that one kernel position reads from inside the input: output out_offset + i
// reads input in_offset + i * stride[2]. Taps come in order, row-major.
template <class Row>
void for_each_tap(const Window& w, Row&& row) {
  // Outputs [low, high) of dimension d have kernel position k inside the input.
  const auto range = [&w](std::size_t d, std::int64_t k) {
    const std::int64_t shift = w.pad_begin[d] - k * w.dilation[d];
    const std::int64_t low = shift > 0 ? (shift + w.stride[d] - 1) / w.stride[d] : 0;
    const std::int64_t last = w.in[d] - 1 + shift;  // largest input position times stride
    const std::int64_t high = last < 0 ? 0 : std::min(w.out[d], last / w.stride[d] + 1);
    return std::pair(low, high);
  };
  const auto at = [&w](std::size_t d, std::int64_t o, std::int64_t k) {
    return o * w.stride[d] - w.pad_begin[d] + k * w.dilation[d];
  };
  std::int64_t tap = 0;
  for (std::int64_t k0 = 0; k0 < w.kernel[0]; ++k0) {
    const auto [low0, high0] = range(0, k0);
    for (std::int64_t k1 = 0; k1 < w.kernel[1]; ++k1) {
      const auto [low1, high1] = range(1, k1);
      for (std::int64_t k2 = 0; k2 < w.kernel[2]; ++k2, ++tap) {
        const auto [low2, high2] = range(2, k2);
        if (low2 >= high2) continue;
        for (std::int64_t o0 = low0; o0 < high0; ++o0) {
          for (std::int64_t o1 = low1; o1 < high1; ++o1) {
            row(tap, (o0 * w.out[1] + o1) * w.out[2] + low2,
                (at(0, o0, k0) * w.in[1] + at(1, o1, k1)) * w.in[2] + at(2, low2, k2),
                high2 - low2);
          }
        }
      }
    }
  }
}

}  // namespace slalom::importer
