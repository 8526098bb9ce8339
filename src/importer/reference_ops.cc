// SPDX-License-Identifier: Apache-2.0
// All operators but Linear.
#include "importer/reference_ops.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

namespace slalom::importer::reference {
namespace {

using model::Shape;

std::size_t at(const Shape& shape, std::size_t y, std::size_t x, std::size_t c) {
  return (y * shape.w + x) * shape.c + c;
}

// for_each calls f(y, x, c) for every element, in the order of memory.
template <class F>
void for_each(const Shape& shape, F&& f) {
  for (std::size_t y = 0; y < shape.h; ++y) {
    for (std::size_t x = 0; x < shape.w; ++x) {
      for (std::size_t c = 0; c < shape.c; ++c) f(y, x, c);
    }
  }
}

// broadcast_at is the element of a broadcast operand: an axis of length 1 is read at 0.
std::size_t broadcast_at(const Shape& shape, std::size_t y, std::size_t x, std::size_t c) {
  return at(shape, shape.h == 1 ? 0 : y, shape.w == 1 ? 0 : x, shape.c == 1 ? 0 : c);
}

// centred is a - za of an operand's element.
std::int32_t centred(const Operand& operand, std::size_t index) {
  return operand.codes[index] - operand.info->zero_point;
}

// Taps lists the input coordinates along one axis that window `o` covers, and how many of its taps
// lie inside the padded input.
struct Taps {
  std::vector<std::size_t> inside;
  std::size_t padded = 0;
};
Taps taps(std::size_t o, std::uint32_t kernel, std::uint32_t stride, std::uint32_t dilation,
          std::uint32_t before, std::uint32_t after, std::uint32_t length) {
  Taps result;
  for (std::size_t k = 0; k < kernel; ++k) {
    const auto position = static_cast<std::ptrdiff_t>(o * stride + k * dilation) -
                          static_cast<std::ptrdiff_t>(before);
    if (position >= 0 && position < static_cast<std::ptrdiff_t>(length)) {
      result.inside.push_back(static_cast<std::size_t>(position));
    }
    if (position < static_cast<std::ptrdiff_t>(length) + static_cast<std::ptrdiff_t>(after)) {
      ++result.padded;
    }
  }
  return result;
}
Taps taps_h(const model::Window& w, std::size_t oy, const Shape& in) {
  return taps(oy, w.kernel_h, w.stride_h, w.dilation_h, w.pad_top, w.pad_bottom, in.h);
}
Taps taps_w(const model::Window& w, std::size_t ox, const Shape& in) {
  return taps(ox, w.kernel_w, w.stride_w, w.dilation_w, w.pad_left, w.pad_right, in.w);
}

std::array<std::uint32_t, 3> axes(const Shape& s) { return {s.h, s.w, s.c}; }

}  // namespace

Clamp full_range(const model::TensorInfo& info) noexcept {
  constexpr std::int32_t kLargest = 1 << 30;
  return info.dtype == model::Dtype::kU8 ? Clamp{0, 255} : Clamp{-kLargest, kLargest};
}

std::int32_t requantise(float v, std::int32_t zero_point, Clamp clamp) noexcept {
  constexpr float kLargest = 1073741824.0F;  // 2^30
  v = std::clamp(v, -kLargest, kLargest);
  // nearbyint rounds to nearest even in the default environment.
  const auto rounded = static_cast<std::int64_t>(std::nearbyint(v));
  return static_cast<std::int32_t>(
      std::clamp<std::int64_t>(rounded + zero_point, clamp.lo, clamp.hi));
}

Codes apply(const model::Add& op, Operands in, const model::TensorInfo& out) {
  Codes codes;
  codes.reserve(out.shape.elements());
  for_each(out.shape, [&](std::size_t y, std::size_t x, std::size_t c) {
    const std::int32_t a = centred(in[0], broadcast_at(in[0].info->shape, y, x, c));
    const std::int32_t b = centred(in[1], broadcast_at(in[1].info->shape, y, x, c));
    const float product_a = static_cast<float>(a) * op.multiplier_a;
    const float product_b = static_cast<float>(b) * op.multiplier_b;
    codes.push_back(requantise(product_a + product_b, out.zero_point, {op.lo, op.hi}));
  });
  return codes;
}

Codes apply(const model::Mul& op, Operands in, const model::TensorInfo& out) {
  Codes codes;
  codes.reserve(out.shape.elements());
  for_each(out.shape, [&](std::size_t y, std::size_t x, std::size_t c) {
    const std::int32_t a = centred(in[0], broadcast_at(in[0].info->shape, y, x, c));
    const std::int32_t b = centred(in[1], broadcast_at(in[1].info->shape, y, x, c));
    const auto product = static_cast<float>(a * b);
    codes.push_back(requantise(product * op.multiplier, out.zero_point, {op.lo, op.hi}));
  });
  return codes;
}

Codes apply(const model::Table& op, Operands in, const model::TensorInfo&) {
  Codes codes;
  codes.reserve(in[0].codes.size());
  for (const std::int32_t q : in[0].codes) codes.push_back(op.table[static_cast<std::size_t>(q)]);
  return codes;
}

Codes apply(const model::Prelu& op, Operands in, const model::TensorInfo& out) {
  Codes codes;
  codes.reserve(in[0].codes.size());
  for (std::size_t i = 0; i < in[0].codes.size(); ++i) {
    const std::int32_t a = centred(in[0], i);
    const float slope = a >= 0 ? op.positive : op.negative[i % out.shape.c];
    codes.push_back(requantise(static_cast<float>(a) * slope, out.zero_point, {op.lo, op.hi}));
  }
  return codes;
}

Codes apply(const model::MaxPool& op, Operands in, const model::TensorInfo& out) {
  const Shape& from = in[0].info->shape;
  Codes codes;
  codes.reserve(out.shape.elements());
  for_each(out.shape, [&](std::size_t oy, std::size_t ox, std::size_t c) {
    std::int32_t largest = 0;  // of codes, which are not negative
    const Taps columns = taps_w(op.window, ox, from);
    for (const std::size_t y : taps_h(op.window, oy, from).inside) {
      for (const std::size_t x : columns.inside) {
        largest = std::max(largest, in[0].codes[at(from, y, x, c)]);
      }
    }
    codes.push_back(largest);
  });
  return codes;
}

Codes apply(const model::AveragePool& op, Operands in, const model::TensorInfo& out) {
  const Shape& from = in[0].info->shape;
  Codes codes;
  codes.reserve(out.shape.elements());
  for_each(out.shape, [&](std::size_t oy, std::size_t ox, std::size_t c) {
    const Taps rows = taps_h(op.window, oy, from);
    const Taps columns = taps_w(op.window, ox, from);
    std::int32_t sum = 0;  // at most 2^20 taps of at most 255
    for (const std::size_t y : rows.inside) {
      for (const std::size_t x : columns.inside) sum += centred(in[0], at(from, y, x, c));
    }
    const std::size_t n = op.count_padding ? rows.padded * columns.padded
                                           : rows.inside.size() * columns.inside.size();
    const float multiplier = op.multiplier / static_cast<float>(n);
    codes.push_back(
        requantise(static_cast<float>(sum) * multiplier, out.zero_point, {op.lo, op.hi}));
  });
  return codes;
}

Codes apply(const model::Concat& op, Operands in, const model::TensorInfo& out) {
  Codes codes(out.shape.elements());
  std::array<std::size_t, 3> offset{};
  for (std::size_t i = 0; i < in.size(); ++i) {
    const Shape& from = in[i].info->shape;
    for_each(from, [&](std::size_t y, std::size_t x, std::size_t c) {
      const float v = static_cast<float>(centred(in[i], at(from, y, x, c))) * op.multiplier[i];
      codes[at(out.shape, y + offset[0], x + offset[1], c + offset[2])] =
          requantise(v, out.zero_point, full_range(out));
    });
    offset[op.axis] += axes(from)[op.axis];
  }
  return codes;
}

Codes apply(const model::Pad& op, Operands in, const model::TensorInfo& out) {
  const Shape& from = in[0].info->shape;
  Codes codes(out.shape.elements(), op.code);
  for_each(from, [&](std::size_t y, std::size_t x, std::size_t c) {
    codes[at(out.shape, y + op.before[0], x + op.before[1], c + op.before[2])] =
        in[0].codes[at(from, y, x, c)];
  });
  return codes;
}

Codes apply(const model::Slice& op, Operands in, const model::TensorInfo& out) {
  const Shape& from = in[0].info->shape;
  Codes codes;
  codes.reserve(out.shape.elements());
  for_each(out.shape, [&](std::size_t y, std::size_t x, std::size_t c) {
    codes.push_back(in[0].codes[at(from, op.begin[0] + y * op.step[0], op.begin[1] + x * op.step[1],
                                   op.begin[2] + c * op.step[2])]);
  });
  return codes;
}

Codes apply(const model::Transpose& op, Operands in, const model::TensorInfo& out) {
  const Shape& from = in[0].info->shape;
  Codes codes;
  codes.reserve(out.shape.elements());
  for_each(out.shape, [&](std::size_t y, std::size_t x, std::size_t c) {
    std::array<std::size_t, 3> source{};
    source[op.perm[0]] = y;
    source[op.perm[1]] = x;
    source[op.perm[2]] = c;
    codes.push_back(in[0].codes[at(from, source[0], source[1], source[2])]);
  });
  return codes;
}

Codes apply(const model::Reshape&, Operands in, const model::TensorInfo&) {
  return {in[0].codes.begin(), in[0].codes.end()};
}

Codes apply(const model::Softmax& op, Operands in, const model::TensorInfo& out) {
  const std::size_t channels = out.shape.c;
  Codes codes(in[0].codes.size());
  for (std::size_t row = 0; row < codes.size(); row += channels) {
    const auto a = in[0].codes.subspan(row, channels);
    const std::int32_t largest = *std::max_element(a.begin(), a.end());
    const auto exponential = [&](std::int32_t q) {
      return op.table[static_cast<std::size_t>(largest - q)];
    };
    std::uint64_t sum = 0;
    for (const std::int32_t q : a) sum += exponential(q);
    for (std::size_t c = 0; c < channels; ++c) {
      const double share =
          static_cast<double>(exponential(a[c])) * 256.0 / static_cast<double>(sum);
      codes[row + c] = std::min(255, static_cast<std::int32_t>(std::nearbyint(share)));
    }
  }
  return codes;
}

Codes apply(const model::Lrn& op, Operands in, const model::TensorInfo& out) {
  const std::size_t channels = out.shape.c;
  const std::size_t half = (op.size - 1) / 2;
  Codes codes;
  codes.reserve(in[0].codes.size());
  for (std::size_t i = 0; i < in[0].codes.size(); ++i) {
    const std::size_t c = i % channels;
    const std::size_t row = i - c;
    const std::size_t first = c < half ? 0 : c - half;
    const std::size_t last = std::min(channels - 1, c + half);
    std::int32_t squares = 0;
    for (std::size_t k = first; k <= last; ++k) {
      squares += centred(in[0], row + k) * centred(in[0], row + k);
    }
    const float d = op.bias + static_cast<float>(squares) * op.alpha;
    const float root = std::sqrt(d);
    const float n = op.beta_quarters == 4   ? d
                    : op.beta_quarters == 3 ? root * std::sqrt(root)
                                            : root;
    const float v = (static_cast<float>(centred(in[0], i)) / n) * op.multiplier;
    codes.push_back(requantise(v, out.zero_point, {op.lo, op.hi}));
  }
  return codes;
}

Codes apply(const model::Constant& op, Operands, const model::TensorInfo&) {
  return {op.codes.begin(), op.codes.end()};
}

}  // namespace slalom::importer::reference
