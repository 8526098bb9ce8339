// SPDX-License-Identifier: Apache-2.0
#include "field/transpose.h"

#include <algorithm>

#include "base/assert.h"
#include "field/arithmetic.h"

namespace slalom::field {
namespace {

// Axis is one dimension of a convolution.
struct Axis {
  std::int64_t in, out, stride, dilation, before;

  // position returns the output position whose tap reads input position at, or -1.
  [[nodiscard]] std::int64_t position(std::int64_t at, std::int64_t tap) const noexcept {
    const std::int64_t shifted = at + before - tap * dilation;
    if (shifted < 0 || shifted % stride != 0) return -1;
    const std::int64_t out_at = shifted / stride;
    return out_at < out ? out_at : -1;
  }
  // inside is the range of output positions whose tap lies in the input.
  struct Range {
    std::int64_t first, last;
  };
  [[nodiscard]] Range inside(std::int64_t tap) const noexcept {
    const std::int64_t shift = before - tap * dilation;  // reads out*stride - shift
    const std::int64_t first = shift > 0 ? (shift + stride - 1) / stride : 0;
    const std::int64_t end = in + shift <= 0 ? 0 : (in + shift - 1) / stride + 1;
    const std::int64_t last = std::min(end, out);
    return {std::min(first, last), last};
  }
};

Axis axis_h(const model::Conv& c) noexcept {
  return {c.in.h, c.out.h, c.window.stride_h, c.window.dilation_h, c.window.pad_top};
}
Axis axis_w(const model::Conv& c) noexcept {
  return {c.in.w, c.out.w, c.window.stride_w, c.window.dilation_w, c.window.pad_left};
}

std::vector<const std::int8_t*> rows_of(const model::ConvStage& stage) {
  std::vector<const std::int8_t*> rows(stage.conv.out.c);
  for (std::size_t o = 0; o < rows.size(); ++o) {
    rows[o] = stage.weights.data() + o * stage.conv.terms();
  }
  return rows;
}

std::uint32_t sum_words(const std::uint32_t* words, std::size_t n, Field f) noexcept {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum = add(sum, words[i], f);
  return sum;
}

}  // namespace

Transpose::Transpose(const model::Linear& layer, const Kernels& kernels)
    : conv_(&layer.stages.front().conv),
      kernels_(&kernels),
      field_(layer.field.value_or(Field::kP31)),
      out_channels_(layer.out().c),
      first_rows_(rows_of(layer.stages.front())) {
  SLALOM_ASSERT(layer.field.has_value());
  if (layer.stages.size() == 2) second_rows_ = rows_of(layer.stages.back());
}

void Transpose::fold(std::span<const std::uint32_t> a, std::span<std::uint32_t> middle,
                     std::span<std::uint32_t> folded) const noexcept {
  const std::uint32_t* left = a.data();
  if (!second_rows_.empty()) {
    kernels_->combine_weights(field_, left, second_rows_.data(), second_rows_.size(), conv_->out.c,
                              middle.data());
    left = middle.data();
  }
  if (conv_->groups == 1) {
    kernels_->combine_weights(field_, left, first_rows_.data(), first_rows_.size(), conv_->terms(),
                              folded.data());
    return;
  }
  const std::size_t group_in = conv_->group_in();
  const std::size_t group_out = conv_->group_out();
  for (std::size_t i = 0; i < conv_->in.c; ++i) {
    const std::size_t group = i / group_in;
    for (std::size_t t = 0; t < conv_->taps(); ++t) {
      std::int64_t sum = 0;  // below 2^31 * 2^7 * 2^20
      for (std::size_t o = group * group_out; o < (group + 1) * group_out; ++o) {
        sum += std::int64_t{left[o]} * first_rows_[o][t * group_in + i % group_in];
      }
      folded[t * conv_->in.c + i] = reduce_signed(sum, field_);
    }
  }
}

void Transpose::row(std::span<const std::uint32_t> folded, std::span<const std::uint32_t> c,
                    std::size_t iy, std::span<std::uint32_t> out) const noexcept {
  constexpr std::size_t kAtOnce = 128;
  std::uint32_t coefficients[kAtOnce];
  const std::uint32_t* rows[kAtOnce];
  const Axis high = axis_h(*conv_);
  const Axis wide = axis_w(*conv_);
  const std::size_t channels = conv_->in.c;
  for (std::size_t ix = 0; ix < conv_->in.w; ++ix) {
    std::uint32_t* const here = out.data() + ix * channels;
    std::size_t n = 0;
    for (std::size_t ky = 0; ky < conv_->window.kernel_h; ++ky) {
      const std::int64_t oy =
          high.position(static_cast<std::int64_t>(iy), static_cast<std::int64_t>(ky));
      if (oy < 0) continue;
      for (std::size_t kx = 0; kx < conv_->window.kernel_w; ++kx) {
        const std::int64_t ox =
            wide.position(static_cast<std::int64_t>(ix), static_cast<std::int64_t>(kx));
        if (ox < 0) continue;
        if (n == kAtOnce) {
          kernels_->combine_words(field_, coefficients, rows, n, channels, here);
          coefficients[0] = 1;  // what is summed so far goes on as one more row
          rows[0] = here;
          n = 1;
        }
        coefficients[n] = c[static_cast<std::size_t>(oy * conv_->out.w + ox)];
        rows[n] = folded.data() + (ky * conv_->window.kernel_w + kx) * channels;
        ++n;
      }
    }
    kernels_->combine_words(field_, coefficients, rows, n, channels, here);
  }
}

Transpose::Sums Transpose::sums(std::span<const std::uint32_t> folded,
                                std::span<const std::uint32_t> c) const noexcept {
  const Axis high = axis_h(*conv_);
  const Axis wide = axis_w(*conv_);
  const std::size_t width = conv_->out.w;
  const std::uint32_t all = sum_words(c.data(), conv_->out.positions(), field_);
  Sums out;
  for (std::size_t t = 0; t < conv_->taps(); ++t) {
    const Axis::Range rows = high.inside(static_cast<std::int64_t>(t / conv_->window.kernel_w));
    const Axis::Range columns = wide.inside(static_cast<std::int64_t>(t % conv_->window.kernel_w));
    std::uint32_t outside = 0;
    for (std::int64_t oy = 0; oy < high.out; ++oy) {
      const std::uint32_t* const row = c.data() + static_cast<std::size_t>(oy) * width;
      const bool in = oy >= rows.first && oy < rows.last;
      const auto left = static_cast<std::size_t>(in ? columns.first : wide.out);
      const auto right = static_cast<std::size_t>(in ? columns.last : wide.out);
      outside = add(outside, sum_words(row, left, field_), field_);
      outside = add(outside, sum_words(row + right, width - right, field_), field_);
    }
    const std::uint32_t weight = sum_words(folded.data() + t * conv_->in.c, conv_->in.c, field_);
    out.outside = add(out.outside, mul(weight, outside, field_), field_);
    out.inside = add(out.inside, mul(weight, sub(all, outside, field_), field_), field_);
  }
  return out;
}

}  // namespace slalom::field
