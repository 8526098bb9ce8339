// SPDX-License-Identifier: Apache-2.0
#include "linear/tile.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "base/round_up.h"

namespace slalom::linear {
namespace {

// Fewer positions than this leave the weights' loads uncovered.
constexpr std::size_t kFewPositions = 48;

bool reads_whole_input_once(const model::Conv& c) noexcept {
  const model::Window& w = c.window;
  return c.out.h == 1 && c.out.w == 1 && c.groups == 1 && w.kernel_h == c.in.h &&
         w.kernel_w == c.in.w && w.dilation_h == 1 && w.dilation_w == 1 &&
         (w.pad_top | w.pad_left | w.pad_bottom | w.pad_right) == 0;
}

// flatten returns the same convolution in the form with the fewest rows' worth of geometry: one
// that reads its whole input becomes a dense layer over {1, 1, elements}, a pointwise one (1x1,
// stride 1) a column of positions {positions, 1, channels}. Weights and data keep their order in
// memory.
model::Conv flatten(const model::Conv& conv) noexcept {
  model::Conv out = conv;
  if (reads_whole_input_once(conv)) {
    out.in = {1, 1, static_cast<std::uint32_t>(conv.in.elements())};
    out.window = {};
  } else if (conv.window == model::Window{}) {
    out.in = {static_cast<std::uint32_t>(conv.in.positions()), 1, conv.in.c};
    out.out = {out.in.h, 1, conv.out.c};
  }
  return out;
}

}  // namespace

Tiling make_tiling(const model::Conv& conv, const TilingTarget& target) noexcept {
  Tiling t;
  t.conv = flatten(conv);
  t.format = target.format;
  t.channels = base::round_up(t.conv.in.c, target.channel_step);
  t.images_joined = t.conv.window == model::Window{};
  const std::size_t total = t.row_units(target.max_batch);
  SLALOM_ASSERT(total != 0);  // a validated layer has rows, and a batch images
  const std::size_t images = t.images(target.max_batch);
  const std::size_t width = t.conv.out.w;
  const std::size_t columns = base::round_up(t.conv.out.c, target.column_step);
  const std::size_t wanted = target.threads == 1 ? 1 : 4 * target.threads;

  const auto bytes = [&](std::size_t rows) {
    return t.tile_bytes(rows) + rows * width * (columns / t.chunks) * sizeof(std::int32_t);
  };
  const auto can_split_columns = [&] {
    return !target.whole && t.conv.groups == 1 && columns % (2 * t.chunks * target.chunk_step) == 0;
  };
  t.rows = total;
  while (t.rows > 1 && bytes(t.rows) > target.tile_budget) {
    t.rows = std::max<std::size_t>(1, t.rows - base::div_up(t.rows, 16));
  }
  while (t.rows == 1 && bytes(1) > 4 * target.tile_budget && can_split_columns()) t.chunks *= 2;
  while (images * base::div_up(total, t.rows) * t.chunks < wanted) {
    if (t.rows > 1 && t.rows * width > kFewPositions) {
      t.rows = base::div_up(t.rows, 2);
    } else if (can_split_columns()) {
      t.chunks *= 2;
    } else {
      break;
    }
  }
  const std::size_t tiles = std::max<std::size_t>(1, base::div_up(total, t.rows));
  t.rows = base::div_up(total, tiles);  // tiles of about one size
  return t;
}

namespace {

// fill calls copy(from, to, n) for runs of input elements and pad(to, n) for runs of padding.
template <class Copy, class Pad>
void fill(const Tiling& t, std::size_t first, std::size_t rows, Copy copy, Pad pad) noexcept {
  const model::Window& w = t.conv.window;
  const std::size_t in_c = t.conv.in.c;
  const std::size_t in_w = t.conv.in.w;
  const std::size_t tile_row = (w.pad_left + in_w + w.pad_right) * t.channels;
  const std::size_t n = t.input_rows(rows);
  if (!t.padded() && t.channels == in_c) {
    copy(first * w.stride_h * in_w * in_c, 0, n * in_w * in_c);
    return;
  }
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t y = first * w.stride_h + i;  // in the padded image
    const std::size_t to = i * tile_row;
    if (y < w.pad_top || y - w.pad_top >= t.conv.in.h + (t.images_joined ? first + rows : 0)) {
      pad(to, tile_row);
      continue;
    }
    const std::size_t from = (y - w.pad_top) * in_w * in_c;
    const std::size_t left = w.pad_left * t.channels;
    pad(to, left);
    if (t.channels == in_c) {
      copy(from, to + left, in_w * in_c);
    } else {
      for (std::size_t x = 0; x < in_w; ++x) {
        copy(from + x * in_c, to + left + x * t.channels, in_c);
      }
    }
    pad(to + left + in_w * t.channels, w.pad_right * t.channels);
  }
}

}  // namespace

void fill_codes(const Tiling& tiling, const Kernels& kernels, const std::uint8_t* image,
                std::uint8_t pad_code, std::size_t first, std::size_t rows,
                std::byte* tile) noexcept {
  using Size = std::size_t;
  if (tiling.format == Format::kBytes) {
    fill(
        tiling, first, rows,
        [=](Size from, Size to, Size n) { std::memcpy(tile + to, image + from, n); },
        [=](Size to, Size n) { std::memset(tile + to, pad_code, n); });
    return;
  }
  auto* words = reinterpret_cast<std::int16_t*>(tile);
  const auto outside = static_cast<std::int16_t>(pad_code - 128);
  fill(
      tiling, first, rows,
      [=, &kernels](Size from, Size to, Size n) { kernels.widen(image + from, n, words + to); },
      [=](Size to, Size n) { std::fill_n(words + to, n, outside); });
}

void fill_words(const Tiling& tiling, const Digits& digits, const std::uint32_t* image,
                std::size_t first, std::size_t rows, const Planes& planes) noexcept {
  const std::size_t size = tiling.element_bytes();
  const int zero = tiling.format == Format::kBytes ? 128 : 0;
  fill(
      tiling, first, rows,
      [&](std::size_t from, std::size_t to, std::size_t n) {
        Planes at = planes;
        for (std::byte*& plane : at) plane += to * size;
        digits.cut(image + from, n, tiling.format, at);
      },
      [&](std::size_t to, std::size_t n) {
        for (std::size_t l = 0; l < digits.limbs; ++l) {
          std::memset(planes[l] + to * size, zero, n * size);
        }
      });
}

}  // namespace slalom::linear
