// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "linear/kernels.h"
#include "model/plan.h"

namespace slalom::linear {

// Tiling says how a convolution is cut into tiles that fit the second-level cache: `rows`
// consecutive output rows, all columns, one of `chunks` ranges of output channels. Where outputs
// read one position each (dense and pointwise layers), the images of a run are one tall one.
struct Tiling {
  model::Conv conv;  // flattened
  bool images_joined = false;
  std::size_t rows = 1;  // at most, of one tile
  std::size_t chunks = 1;
  Format format = Format::kBytes;
  std::size_t channels = 0;  // of the tile's input, padded (depthwise)

  // row_units is how many rows one run over `batch` images has in each of `images()` parts.
  [[nodiscard]] std::size_t row_units(std::size_t batch) const noexcept {
    return images_joined ? batch * conv.out.h : conv.out.h;
  }
  [[nodiscard]] std::size_t images(std::size_t batch) const noexcept {
    return images_joined ? 1 : batch;
  }
  [[nodiscard]] bool padded() const noexcept {
    const model::Window& w = conv.window;
    return (w.pad_top | w.pad_bottom | w.pad_left | w.pad_right) != 0;
  }
  [[nodiscard]] std::size_t element_bytes() const noexcept {
    return static_cast<std::size_t>(format);
  }
  [[nodiscard]] std::size_t column_bytes() const noexcept { return channels * element_bytes(); }
  // row_bytes is one input row of the tile with its padding at the sides.
  [[nodiscard]] std::size_t row_bytes() const noexcept {
    return (conv.window.pad_left + conv.in.w + conv.window.pad_right) * column_bytes();
  }
  // row_step is from one output row's input to the next one's.
  [[nodiscard]] std::size_t row_step() const noexcept { return conv.window.stride_h * row_bytes(); }
  // input_rows is how many input rows n output rows read.
  [[nodiscard]] std::size_t input_rows(std::size_t n) const noexcept {
    const model::Window& w = conv.window;
    if (images_joined) return n;
    return (n - 1) * w.stride_h + std::size_t{w.kernel_h - 1} * w.dilation_h + 1;
  }
  // tile_bytes of one plane, with room for a kernel's last step beyond the end.
  [[nodiscard]] std::size_t tile_bytes(std::size_t n) const noexcept {
    return (input_rows(n) * row_bytes() + 127) / 64 * 64;
  }
};

// TilingTarget is what the cutting depends on beside the convolution.
struct TilingTarget {
  Format format = Format::kBytes;
  std::size_t channel_step = 1;  // input channels of the tile are padded to a multiple of this
  std::size_t column_step = 1;   // output channels are computed in multiples of this
  std::size_t tile_budget = 0;   // bytes of a tile and its sums
  std::size_t chunk_step = 1;    // and cut into chunks in multiples of this
  std::size_t threads = 1;
  std::size_t max_batch = 1;
  bool whole = false;  // one chunk only
};
[[nodiscard]] Tiling make_tiling(const model::Conv& conv, const TilingTarget& target) noexcept;

// fill_codes writes the tile for output rows [first, first + rows) of an image of codes, with
// padding. image points at its first code (with images_joined: the batch's).
void fill_codes(const Tiling& tiling, const Kernels& kernels, const std::uint8_t* image,
                std::uint8_t pad_code, std::size_t first, std::size_t rows,
                std::byte* tile) noexcept;
// fill_words is the same for words: one plane for each limb, zeros around.
void fill_words(const Tiling& tiling, const Digits& digits, const std::uint32_t* image,
                std::size_t first, std::size_t rows, const Planes& planes) noexcept;

}  // namespace slalom::linear
