// SPDX-License-Identifier: Apache-2.0
// Concat, Pad, Slice, Transpose: codes change their place (and, in a Concat, their scale).

#include <algorithm>
#include <array>
#include <cstring>

#include "runtime/ops/operator.h"

namespace slalom::runtime {
namespace {

std::array<std::size_t, 3> axes(const model::Shape& s) noexcept { return {s.h, s.w, s.c}; }

// ConcatOperator sees every tensor as outer x inner bytes, where inner covers the joined axis and
// all behind it. A unit is one outer line.
class ConcatOperator final : public Operator {
 public:
  ConcatOperator(const OperatorContext& x, const model::Concat& op) : scale_(x.kernels.scale) {
    const auto out = axes(x.out().shape);
    std::size_t behind = 1;
    for (std::size_t axis = op.axis + 1; axis < 3; ++axis) behind *= out[axis];
    inner_ = out[op.axis] * behind;
    outer_ = x.out().shape.elements() / inner_;
    std::size_t at = 0;
    for (std::size_t i = 0; i < x.node.inputs.size(); ++i) {
      const model::TensorInfo& in = x.in(i);
      const bool copied = in.scale == x.out().scale && in.zero_point == x.out().zero_point;
      const std::size_t bytes = axes(in.shape)[op.axis] * behind;
      parts_.push_back(Part{.at = at,
                            .bytes = bytes,
                            .copied = copied,
                            .row = {.zero = in.zero_point,
                                    .multiplier = op.multiplier[i],
                                    .to = {x.out().zero_point, 0, 255}}});
      at += bytes;
    }
  }
  [[nodiscard]] std::size_t units() const noexcept override { return outer_; }
  [[nodiscard]] std::size_t grain() const noexcept override {
    return std::max<std::size_t>(1, 8192 / inner_);
  }

  void run(std::span<const std::uint8_t* const> inputs, std::byte* out, std::size_t first,
           std::size_t last, std::span<std::byte> /*scratch*/) const noexcept override {
    for (std::size_t line = first; line < last; ++line) {
      for (std::size_t i = 0; i < parts_.size(); ++i) {
        const Part& part = parts_[i];
        const std::uint8_t* src = inputs[i] + line * part.bytes;
        std::byte* dst = out + line * inner_ + part.at;
        if (part.copied) {
          std::memcpy(dst, src, part.bytes);
        } else {
          scale_(src, part.bytes, part.row, dst);
        }
      }
    }
  }

 private:
  struct Part {
    std::size_t at = 0;
    std::size_t bytes = 0;
    bool copied = false;
    ScaleRow row;
  };
  decltype(OpKernels::scale) scale_;
  std::size_t outer_ = 0, inner_ = 0;
  std::vector<Part> parts_;
};

// PadOperator: a unit is one output row.
class PadOperator final : public Operator {
 public:
  PadOperator(const OperatorContext& x, const model::Pad& op)
      : in_(x.in(0).shape), out_(x.out().shape), op_(op) {}
  [[nodiscard]] std::size_t units() const noexcept override { return out_.h; }

  void run(std::span<const std::uint8_t* const> inputs, std::byte* out, std::size_t first,
           std::size_t last, std::span<std::byte> /*scratch*/) const noexcept override {
    const std::size_t line = std::size_t{out_.w} * out_.c;
    for (std::size_t y = first; y < last; ++y) {
      auto* dst = reinterpret_cast<std::uint8_t*>(out) + y * line;
      std::memset(dst, op_.code, line);
      if (y < op_.before[0] || y - op_.before[0] >= in_.h) continue;
      const std::uint8_t* src = inputs[0] + (y - op_.before[0]) * in_.w * in_.c;
      for (std::size_t x = 0; x < in_.w; ++x) {
        std::memcpy(dst + (x + op_.before[1]) * out_.c + op_.before[2], src + x * in_.c, in_.c);
      }
    }
  }

 private:
  model::Shape in_, out_;
  const model::Pad& op_;
};

// Strided copies out[y][x][c] = in[base + y*sy + x*sx + c*sc]: Slice and Transpose. A unit is one
// output row.
class StridedOperator final : public Operator {
 public:
  StridedOperator(const model::Shape& out, std::size_t base, std::array<std::size_t, 3> strides)
      : out_(out), base_(base), strides_(strides) {}
  [[nodiscard]] std::size_t units() const noexcept override { return out_.h; }

  void run(std::span<const std::uint8_t* const> inputs, std::byte* out, std::size_t first,
           std::size_t last, std::span<std::byte> /*scratch*/) const noexcept override {
    for (std::size_t y = first; y < last; ++y) {
      auto* dst = reinterpret_cast<std::uint8_t*>(out) + y * out_.w * out_.c;
      const std::uint8_t* row = inputs[0] + base_ + y * strides_[0];
      for (std::size_t x = 0; x < out_.w; ++x, dst += out_.c, row += strides_[1]) {
        if (strides_[2] == 1) {
          std::memcpy(dst, row, out_.c);
        } else {
          for (std::size_t c = 0; c < out_.c; ++c) dst[c] = row[c * strides_[2]];
        }
      }
    }
  }

 private:
  model::Shape out_;
  std::size_t base_;
  std::array<std::size_t, 3> strides_;
};

std::array<std::size_t, 3> strides_of(const model::Shape& s) noexcept {
  return {std::size_t{s.w} * s.c, s.c, 1};
}

}  // namespace

OperatorPointer make(const OperatorContext& x, const model::Concat& op) {
  return std::make_unique<ConcatOperator>(x, op);
}

OperatorPointer make(const OperatorContext& x, const model::Pad& op) {
  return std::make_unique<PadOperator>(x, op);
}

OperatorPointer make(const OperatorContext& x, const model::Slice& op) {
  auto strides = strides_of(x.in(0).shape);
  std::size_t base = 0;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    base += op.begin[axis] * strides[axis];
    strides[axis] *= op.step[axis];
  }
  return std::make_unique<StridedOperator>(x.out().shape, base, strides);
}

OperatorPointer make(const OperatorContext& x, const model::Transpose& op) {
  const auto in = strides_of(x.in(0).shape);
  return std::make_unique<StridedOperator>(
      x.out().shape, 0, std::array<std::size_t, 3>{in[op.perm[0]], in[op.perm[1]], in[op.perm[2]]});
}

}  // namespace slalom::runtime
