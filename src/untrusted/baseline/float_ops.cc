// SPDX-License-Identifier: Apache-2.0
#include "baseline/float_ops.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

// Each hot loop is compiled for several instruction sets; the loader picks one.
#if defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define SLALOM_CLONES __attribute__((target_clones("avx512f", "avx2", "default"), optimize("O3")))
#else
#define SLALOM_CLONES
#endif

namespace slalom::baseline {
namespace {

using Axes = std::array<std::size_t, 3>;
Axes axes(const model::Shape& s) { return {s.h, s.w, s.c}; }

// broadcast_strides are the steps of an operand along the output's axes; 0 where it stays.
Axes broadcast_strides(const model::Shape& s) {
  return {s.h == 1 ? 0 : std::size_t{s.w} * s.c, s.w == 1 ? 0 : std::size_t{s.c},
          std::size_t{s.c == 1 ? 0U : 1U}};
}

struct Factors {
  float a;
  float b;
};

SLALOM_CLONES void add_row(const float* a, std::size_t step_a, const float* b, std::size_t step_b,
                           Factors f, Range r, std::size_t n, float* y) {
  if (step_a == 1 && step_b == 1) {
    for (std::size_t i = 0; i < n; ++i) {
      y[i] = std::min(std::max(f.a * a[i] + f.b * b[i], r.low), r.high);
    }
    return;
  }
  for (std::size_t i = 0; i < n; ++i) {
    y[i] = std::min(std::max(f.a * a[i * step_a] + f.b * b[i * step_b], r.low), r.high);
  }
}

SLALOM_CLONES void mul_row(const float* a, std::size_t step_a, const float* b, std::size_t step_b,
                           Factors f, Range r, std::size_t n, float* y) {
  if (step_a == 1 && step_b == 1) {
    for (std::size_t i = 0; i < n; ++i) {
      y[i] = std::min(std::max(f.a * a[i] * b[i], r.low), r.high);
    }
    return;
  }
  for (std::size_t i = 0; i < n; ++i) {
    y[i] = std::min(std::max(f.a * a[i * step_a] * b[i * step_b], r.low), r.high);
  }
}

SLALOM_CLONES void max_row(const float* x, std::size_t n, float* y) {
  for (std::size_t i = 0; i < n; ++i) y[i] = std::max(y[i], x[i]);
}
SLALOM_CLONES void sum_row(const float* x, std::size_t n, float* y) {
  for (std::size_t i = 0; i < n; ++i) y[i] += x[i];
}
SLALOM_CLONES void scale_row(float factor, Range r, std::size_t n, float* y) {
  for (std::size_t i = 0; i < n; ++i) y[i] = std::min(std::max(factor * y[i], r.low), r.high);
}
SLALOM_CLONES void prelu_row(const float* x, float positive, const float* negative, Range r,
                             std::size_t n, float* y) {
  for (std::size_t i = 0; i < n; ++i) {
    const float v = x[i] * (x[i] >= 0.0F ? positive : negative[i]);
    y[i] = std::min(std::max(v, r.low), r.high);
  }
}

using Row = void (*)(const float*, std::size_t, const float*, std::size_t, Factors, Range,
                     std::size_t, float*);

// binary is Add and Mul with broadcasting, a row of channels at a time.
std::function<void()> binary(const OpContext& x, Row row, Factors factors, Range range) {
  const model::Shape out = x.out().shape;
  const Axes sa = broadcast_strides(x.in(0).shape);
  const Axes sb = broadcast_strides(x.in(1).shape);
  const std::size_t na = x.in(0).shape.elements();
  const std::size_t nb = x.in(1).shape.elements();
  const float* a = x.inputs[0];
  const float* b = x.inputs[1];
  float* y = x.output;
  const std::size_t rows = x.batch * out.positions();
  return [=] {
#pragma omp parallel for schedule(static)
    for (std::size_t i = 0; i < rows; ++i) {
      const std::size_t image = i / out.positions();
      const std::size_t h = i % out.positions() / out.w;
      const std::size_t w = i % out.w;
      row(a + image * na + h * sa[0] + w * sa[1], sa[2], b + image * nb + h * sb[0] + w * sb[1],
          sb[2], factors, range, out.c, y + i * out.c);
    }
  };
}

// pool calls take(tap) for each tap inside the input and finish(inside, padded) at the end; padded
// counts the taps inside the padded input.
template <class Start, class Take, class Finish>
std::function<void()> pool(const OpContext& x, const model::Window& k, Start start, Take take,
                           Finish finish) {
  const model::Shape in = x.in(0).shape;
  const model::Shape out = x.out().shape;
  const float* from = x.inputs[0];
  float* y = x.output;
  const std::size_t rows = x.batch * out.positions();
  return [=] {
#pragma omp parallel for schedule(static)
    for (std::size_t i = 0; i < rows; ++i) {
      const float* image = from + i / out.positions() * in.elements();
      const std::size_t oy = i % out.positions() / out.w;
      const std::size_t ox = i % out.w;
      float* to = y + i * out.c;
      start(out.c, to);
      std::size_t inside = 0;
      std::size_t padded = 0;
      for (std::size_t ky = 0; ky < k.kernel_h; ++ky) {
        const std::size_t py = oy * k.stride_h + ky * k.dilation_h;
        if (py >= std::size_t{k.pad_top} + in.h + k.pad_bottom) break;
        for (std::size_t kx = 0; kx < k.kernel_w; ++kx) {
          const std::size_t px = ox * k.stride_w + kx * k.dilation_w;
          if (px >= std::size_t{k.pad_left} + in.w + k.pad_right) break;
          ++padded;
          if (py < k.pad_top || py - k.pad_top >= in.h) continue;
          if (px < k.pad_left || px - k.pad_left >= in.w) continue;
          ++inside;
          take(image + ((py - k.pad_top) * in.w + (px - k.pad_left)) * in.c, out.c, to);
        }
      }
      finish(inside, padded, out.c, to);
    }
  };
}

std::function<void()> make_max_pool(const OpContext& x, const model::MaxPool& op) {
  return pool(
      x, op.window,
      [](std::size_t n, float* y) { std::fill_n(y, n, std::numeric_limits<float>::lowest()); },
      max_row, [](std::size_t, std::size_t, std::size_t, float*) {});
}

std::function<void()> make_average_pool(const OpContext& x, const model::AveragePool& op) {
  const float scale = op.multiplier * x.out().scale / x.in(0).scale;
  const Range range = range_of(x.out(), x.out().zero_point, op.lo, op.hi);
  const bool count_padding = op.count_padding;
  return pool(
      x, op.window, [](std::size_t n, float* y) { std::fill_n(y, n, 0.0F); }, sum_row,
      [=](std::size_t inside, std::size_t padded, std::size_t n, float* y) {
        const auto taps = static_cast<float>(count_padding ? padded : inside);
        scale_row(scale / taps, range, n, y);
      });
}

std::function<void()> make_concat(const OpContext& x, const model::Concat& op) {
  struct Part {
    const float* from;
    std::size_t values;  // of a line
    std::size_t at;
    float factor;
  };
  const Axes out = axes(x.out().shape);
  std::size_t behind = 1;
  for (std::size_t axis = op.axis + 1U; axis < 3; ++axis) behind *= out[axis];
  std::vector<Part> parts;
  std::size_t at = 0;
  for (std::size_t i = 0; i < x.inputs.size(); ++i) {
    const std::size_t values = axes(x.in(i).shape)[op.axis] * behind;
    const float factor = op.multiplier[i] * x.out().scale / x.in(i).scale;
    parts.push_back({x.inputs[i], values, at, std::abs(factor - 1.0F) < 1e-5F ? 1.0F : factor});
    at += values;
  }
  const Range range = range_of(x.out(), x.out().zero_point, 0, 255);
  const std::size_t line = at;
  const std::size_t lines = x.batch * x.out().shape.elements() / line;
  float* y = x.output;
  return [=] {
#pragma omp parallel for schedule(static)
    for (std::size_t i = 0; i < lines; ++i) {
      for (const Part& part : parts) {
        float* to = y + i * line + part.at;
        std::copy_n(part.from + i * part.values, part.values, to);
        if (part.factor != 1.0F) scale_row(part.factor, range, part.values, to);
      }
    }
  };
}

std::function<void()> make_pad(const OpContext& x, const model::Pad& op) {
  const model::Shape in = x.in(0).shape;
  const model::Shape out = x.out().shape;
  const float value = x.out().scale * static_cast<float>(op.code - x.out().zero_point);
  const float* from = x.inputs[0];
  float* y = x.output;
  const std::array<std::uint32_t, 3> before = op.before;
  const std::size_t batch = x.batch;
  return [=] {
#pragma omp parallel for schedule(static)
    for (std::size_t i = 0; i < batch; ++i) {
      float* to = y + i * out.elements();
      std::fill_n(to, out.elements(), value);
      for (std::size_t p = 0; p < in.positions(); ++p) {
        const std::size_t h = p / in.w + before[0];
        const std::size_t w = p % in.w + before[1];
        std::copy_n(from + i * in.elements() + p * in.c, in.c,
                    to + (h * out.w + w) * out.c + before[2]);
      }
    }
  };
}

// strided copies y[h][w][c] = x[base + h*s0 + w*s1 + c*s2]: Slice and Transpose.
std::function<void()> strided(const OpContext& x, std::size_t base, Axes s) {
  const model::Shape out = x.out().shape;
  const std::size_t in = x.in(0).shape.elements();
  const float* from = x.inputs[0];
  float* y = x.output;
  const std::size_t rows = x.batch * out.positions();
  return [=] {
#pragma omp parallel for schedule(static)
    for (std::size_t i = 0; i < rows; ++i) {
      const float* row = from + i / out.positions() * in + base +
                         i % out.positions() / out.w * s[0] + i % out.w * s[1];
      for (std::size_t c = 0; c < out.c; ++c) y[i * out.c + c] = row[c * s[2]];
    }
  };
}

Axes strides_of(const model::Shape& s) { return {std::size_t{s.w} * s.c, s.c, 1}; }

std::function<void()> make_slice(const OpContext& x, const model::Slice& op) {
  Axes strides = strides_of(x.in(0).shape);
  std::size_t base = 0;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    base += op.begin[axis] * strides[axis];
    strides[axis] *= op.step[axis];
  }
  return strided(x, base, strides);
}

std::function<void()> make_transpose(const OpContext& x, const model::Transpose& op) {
  const Axes in = strides_of(x.in(0).shape);
  return strided(x, 0, {in[op.perm[0]], in[op.perm[1]], in[op.perm[2]]});
}

// make_softmax takes the steepness from the table: exp(-k) is its second entry beside the first.
std::function<void()> make_softmax(const OpContext& x, const model::Softmax& op) {
  const double ratio = static_cast<double>(op.table[1]) / op.table[0];
  const auto steepness = static_cast<float>(-std::log(std::max(ratio, 1e-30)) / x.in(0).scale);
  const std::size_t n = x.out().shape.c;
  const std::size_t rows = x.batch * x.out().shape.positions();
  const float* from = x.inputs[0];
  float* y = x.output;
  return [=] {
    for (std::size_t i = 0; i < rows; ++i) {
      const float* a = from + i * n;
      const float most = *std::max_element(a, a + n);
      float sum = 0.0F;
      for (std::size_t c = 0; c < n; ++c) sum += y[i * n + c] = std::exp(steepness * (a[c] - most));
      for (std::size_t c = 0; c < n; ++c) y[i * n + c] /= sum;
    }
  };
}

// make_lrn: the plan's alpha applies to squares of codes, so it is divided by the squared scale.
std::function<void()> make_lrn(const OpContext& x, const model::Lrn& op) {
  const std::size_t n = x.out().shape.c;
  const std::size_t rows = x.batch * x.out().shape.positions();
  const std::size_t half = op.size / 2;
  const float alpha = op.alpha / (x.in(0).scale * x.in(0).scale);
  const float beta = static_cast<float>(op.beta_quarters) / 4.0F;
  const float bias = op.bias;
  const float factor = op.multiplier * x.out().scale / x.in(0).scale;
  const Range range = range_of(x.out(), x.out().zero_point, op.lo, op.hi);
  const float* from = x.inputs[0];
  float* y = x.output;
  return [=] {
#pragma omp parallel for schedule(static)
    for (std::size_t i = 0; i < rows; ++i) {
      const float* a = from + i * n;
      for (std::size_t c = 0; c < n; ++c) {
        float squares = 0.0F;
        for (std::size_t j = c > half ? c - half : 0; j < std::min(n, c + half + 1); ++j) {
          squares += a[j] * a[j];
        }
        const float v = factor * a[c] * std::pow(bias + alpha * squares, -beta);
        y[i * n + c] = std::clamp(v, range.low, range.high);
      }
    }
  };
}

std::function<void()> make_prelu(const OpContext& x, const model::Prelu& op) {
  const float unit = x.out().scale / x.in(0).scale;
  std::vector<float> negative = op.negative;
  for (float& v : negative) v *= unit;
  const float positive = op.positive * unit;
  const Range range = range_of(x.out(), x.out().zero_point, op.lo, op.hi);
  const std::size_t n = x.out().shape.c;
  const std::size_t rows = x.batch * x.out().shape.positions();
  const float* from = x.inputs[0];
  float* y = x.output;
  return [=] {
#pragma omp parallel for schedule(static)
    for (std::size_t i = 0; i < rows; ++i) {
      prelu_row(from + i * n, positive, negative.data(), range, n, y + i * n);
    }
  };
}

std::function<void()> make_table(const OpContext& x, const model::Table& op) {
  const model::TensorInfo& in = x.in(0);
  const model::TensorInfo& out = x.out();
  const std::size_t n = x.batch * out.shape.elements();
  const float* from = x.inputs[0];
  float* y = x.output;
  return [from, y, n, &op, in_scale = in.scale, in_zero = static_cast<float>(in.zero_point),
          scale = out.scale, zero = static_cast<float>(out.zero_point)] {
    constexpr std::size_t kBlock = 4096;
#pragma omp parallel for schedule(static)
    for (std::size_t i = 0; i < n; i += kBlock) {
      const std::size_t m = std::min(kBlock, n - i);
      for (std::size_t j = i; j < i + m; ++j) y[j] = from[j] / in_scale + in_zero;
      interpolate(op.table, scale, zero, y + i, m);
    }
  };
}

std::function<void()> make_reshape(const OpContext& x) {
  const float* from = x.inputs[0];
  float* y = x.output;
  const std::size_t n = x.batch * x.out().shape.elements();
  if (from == y) return [] {};
  return [=] { std::copy_n(from, n, y); };
}

}  // namespace

Range range_of(const model::TensorInfo& out, std::int32_t zero_point, std::int32_t lo,
               std::int32_t hi) {
  return {out.scale * static_cast<float>(lo - zero_point),
          out.scale * static_cast<float>(hi - zero_point)};
}

SLALOM_CLONES void interpolate(std::span<const std::uint8_t> table, float scale, float zero_point,
                               float* values, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    const float v = std::min(std::max(values[i], 0.0F), 255.0F);
    const auto at = std::min(static_cast<std::int32_t>(v), 254);
    const auto low = static_cast<float>(table[static_cast<std::size_t>(at)]);
    const auto high = static_cast<float>(table[static_cast<std::size_t>(at) + 1]);
    values[i] = scale * (low + (v - static_cast<float>(at)) * (high - low) - zero_point);
  }
}

std::function<void()> make_op(const OpContext& x) {
  const auto& op = x.node.op;
  if (const auto* o = std::get_if<model::Add>(&op)) {
    const Factors f{o->multiplier_a * x.out().scale / x.in(0).scale,
                    o->multiplier_b * x.out().scale / x.in(1).scale};
    return binary(x, add_row, f, range_of(x.out(), x.out().zero_point, o->lo, o->hi));
  }
  if (const auto* o = std::get_if<model::Mul>(&op)) {
    const float factor = o->multiplier * x.out().scale / (x.in(0).scale * x.in(1).scale);
    return binary(x, mul_row, {factor, 1.0F}, range_of(x.out(), x.out().zero_point, o->lo, o->hi));
  }
  if (const auto* o = std::get_if<model::Table>(&op)) return make_table(x, *o);
  if (const auto* o = std::get_if<model::Prelu>(&op)) return make_prelu(x, *o);
  if (const auto* o = std::get_if<model::MaxPool>(&op)) return make_max_pool(x, *o);
  if (const auto* o = std::get_if<model::AveragePool>(&op)) return make_average_pool(x, *o);
  if (const auto* o = std::get_if<model::Concat>(&op)) return make_concat(x, *o);
  if (const auto* o = std::get_if<model::Pad>(&op)) return make_pad(x, *o);
  if (const auto* o = std::get_if<model::Slice>(&op)) return make_slice(x, *o);
  if (const auto* o = std::get_if<model::Transpose>(&op)) return make_transpose(x, *o);
  if (const auto* o = std::get_if<model::Softmax>(&op)) return make_softmax(x, *o);
  if (const auto* o = std::get_if<model::Lrn>(&op)) return make_lrn(x, *o);
  return make_reshape(x);
}

}  // namespace slalom::baseline
