// SPDX-License-Identifier: Apache-2.0
// MaxPool and AveragePool.

#include <algorithm>

#include "base/round_up.h"
#include "runtime/ops/operator.h"

namespace slalom::runtime {
namespace {

// Span is the part of a window along one axis that lies inside the input: taps at first, first +
// dilation, ...; padded is the number of taps inside the padded input.
struct Span {
  std::size_t first = 0;
  std::size_t count = 0;
  std::size_t padded = 0;
};

Span clip(std::size_t out, std::size_t in, std::size_t kernel, std::size_t stride,
          std::size_t dilation, std::size_t before, std::size_t after) {
  Span span;
  bool seen = false;
  for (std::size_t k = 0; k < kernel; ++k) {
    const std::size_t at = out * stride + k * dilation;  // from the start of the padding
    if (at < before + in + after) ++span.padded;
    if (at < before || at >= before + in) continue;
    if (!seen) span.first = at - before;
    seen = true;
    ++span.count;
  }
  return span;
}

// Pool is what both poolings share: where each output's taps are. A unit is one block of channels
// of one output row.
class Pool : public Operator {
 public:
  Pool(const OperatorContext& x, const model::Window& w)
      : in_(x.in(0).shape), out_(x.out().shape), window_(w) {
    for (std::size_t y = 0; y < out_.h; ++y) {
      rows_.push_back(
          clip(y, in_.h, w.kernel_h, w.stride_h, w.dilation_h, w.pad_top, w.pad_bottom));
    }
    for (std::size_t i = 0; i < out_.w; ++i) {
      columns_.push_back(
          clip(i, in_.w, w.kernel_w, w.stride_w, w.dilation_w, w.pad_left, w.pad_right));
    }
    // Rows give enough units, but for small outputs (global pooling has one row) channels are cut
    // too.
    block_ =
        out_.h >= kFewRows || out_.w >= kFewRows ? out_.c : std::min<std::size_t>(out_.c, kBlock);
    blocks_ = base::div_up(out_.c, block_);
  }
  [[nodiscard]] std::size_t units() const noexcept override { return out_.h * blocks_; }
  [[nodiscard]] bool ordered() const noexcept override { return blocks_ == 1; }
  [[nodiscard]] std::size_t band() const noexcept override {
    const bool apart = window_.kernel_h <= window_.stride_h && window_.dilation_h == 1;
    return apart && window_.pad_top == 0 && window_.pad_bottom == 0 && ordered() ? window_.stride_h
                                                                                 : 0;
  }
  [[nodiscard]] std::size_t grain() const noexcept override {
    const std::size_t taps = std::size_t{window_.kernel_h} * window_.kernel_w;
    return std::max<std::size_t>(1, kWork / (out_.w * block_ * taps));
  }

 protected:
  static constexpr std::size_t kFewRows = 4;
  static constexpr std::size_t kBlock = 128;
  static constexpr std::size_t kWork = 32'768;  // bytes read by a task that is worth its start

  [[nodiscard]] Taps taps(const std::uint8_t* in, const Span& row, const Span& column,
                          std::size_t channel) const noexcept {
    const std::size_t line = std::size_t{in_.w} * in_.c;
    return Taps{.first = in + row.first * line + column.first * in_.c + channel,
                .rows = row.count,
                .columns = column.count,
                .row_stride = window_.dilation_h * line,
                .column_stride = std::size_t{window_.dilation_w} * in_.c};
  }

  // for_each_run calls body(y, x, channel, n) for the positions and runs of n channels of units.
  template <class Body>
  void for_each_run(std::size_t first, std::size_t last, Body body) const noexcept {
    for (std::size_t unit = first; unit < last; ++unit) {
      const std::size_t channel = unit % blocks_ * block_;
      for (std::size_t x = 0; x < out_.w; ++x) {
        body(unit / blocks_, x, channel, std::min(block_, out_.c - channel));
      }
    }
  }

  model::Shape in_, out_;
  model::Window window_;
  std::vector<Span> rows_, columns_;
  std::size_t block_ = 0, blocks_ = 0;
};

class MaxPoolOperator final : public Pool {
 public:
  MaxPoolOperator(const OperatorContext& x, const model::MaxPool& op)
      : Pool(x, op.window), max_taps_(x.kernels.max_taps) {}

  void run(std::span<const std::uint8_t* const> inputs, std::byte* out, std::size_t first,
           std::size_t last, std::span<std::byte> /*scratch*/) const noexcept override {
    auto* codes = reinterpret_cast<std::uint8_t*>(out);
    for_each_run(first, last,
                 [&](std::size_t y, std::size_t x, std::size_t channel, std::size_t n) {
                   max_taps_(taps(inputs[0], rows_[y], columns_[x], channel), n,
                             codes + (y * out_.w + x) * out_.c + channel);
                 });
  }

 private:
  decltype(OpKernels::max_taps) max_taps_;
};

class AveragePoolOperator final : public Pool {
 public:
  AveragePoolOperator(const OperatorContext& x, const model::AveragePool& op)
      : Pool(x, op.window),
        kernels_(x.kernels),
        zero_(x.in(0).zero_point),
        multiplier_(op.multiplier),
        to_(x.rounding(op.lo, op.hi)),
        count_padding_(op.count_padding) {}
  [[nodiscard]] std::size_t scratch_bytes() const noexcept override {
    return block_ * sizeof(std::int32_t);
  }

  void run(std::span<const std::uint8_t* const> inputs, std::byte* out, std::size_t first,
           std::size_t last, std::span<std::byte> scratch) const noexcept override {
    auto* sums = reinterpret_cast<std::int32_t*>(scratch.data());
    for_each_run(
        first, last, [&](std::size_t y, std::size_t x, std::size_t channel, std::size_t n) {
          kernels_.sum_taps(taps(inputs[0], rows_[y], columns_[x], channel), n, sums);
          const std::size_t at = (y * out_.w + x) * out_.c + channel;
          kernels_.scale_sums(sums, n, scale_at(rows_[y], columns_[x]), element(out, to_, at));
        });
  }

 private:
  // A tap in the padding adds nothing to the sum of (a - za); it counts in n or it does not.
  [[nodiscard]] ScaleRow scale_at(const Span& row, const Span& column) const noexcept {
    const std::size_t inside = row.count * column.count;
    const std::size_t n = count_padding_ ? row.padded * column.padded : inside;
    return ScaleRow{.zero = static_cast<std::int32_t>(inside) * zero_,
                    .multiplier = multiplier_ / static_cast<float>(n),
                    .to = to_};
  }

  const OpKernels& kernels_;
  std::int32_t zero_;
  float multiplier_;
  Requantise to_;
  bool count_padding_;
};

}  // namespace

OperatorPointer make(const OperatorContext& x, const model::MaxPool& op) {
  return std::make_unique<MaxPoolOperator>(x, op);
}

OperatorPointer make(const OperatorContext& x, const model::AveragePool& op) {
  return std::make_unique<AveragePoolOperator>(x, op);
}

}  // namespace slalom::runtime
