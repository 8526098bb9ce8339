// SPDX-License-Identifier: Apache-2.0
// Softmax and Lrn: one output element from the channels around it.

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/round_up.h"
#include "runtime/ops/operator.h"

namespace slalom::runtime {
namespace {

// SoftmaxOperator: a unit is one position (y, x). The exponentials come from a table of 32-bit
// entries, read as four tables of bytes through the kernel whose addresses do not depend on the
// index.
class SoftmaxOperator final : public Operator {
 public:
  SoftmaxOperator(const OperatorContext& x, const model::Softmax& op)
      : kernels_(x.field_kernels), shape_(x.out().shape) {
    for (std::size_t byte = 0; byte < planes_.size(); ++byte) {
      for (std::size_t d = 0; d < 256; ++d) {
        planes_[byte][d] = static_cast<std::uint8_t>(op.table[d] >> (8 * byte));
      }
    }
  }
  [[nodiscard]] std::size_t units() const noexcept override { return shape_.positions(); }
  [[nodiscard]] std::size_t scratch_bytes() const noexcept override {
    return 2 * base::round_up(shape_.c, 64) + base::round_up(shape_.c, 64) * sizeof(std::uint32_t);
  }

  void run(std::span<const std::uint8_t* const> inputs, std::byte* out, std::size_t first,
           std::size_t last, std::span<std::byte> scratch) const noexcept override {
    const std::size_t n = shape_.c;
    const std::size_t padded = base::round_up(n, 64);
    auto* distance = reinterpret_cast<std::uint8_t*>(scratch.data());
    auto* bytes = distance + padded;
    auto* e = reinterpret_cast<std::uint32_t*>(bytes + padded);
    for (std::size_t unit = first; unit < last; ++unit) {
      const std::uint8_t* a = inputs[0] + unit * n;
      std::uint8_t most = 0;
      for (std::size_t i = 0; i < n; ++i) most = larger_code(most, a[i]);
      for (std::size_t i = 0; i < n; ++i) distance[i] = static_cast<std::uint8_t>(most - a[i]);
      std::fill_n(e, n, 0U);
      for (std::size_t byte = 0; byte < planes_.size(); ++byte) {
        std::copy_n(distance, n, bytes);
        kernels_.apply_table(planes_[byte].data(), bytes, n);
        for (std::size_t i = 0; i < n; ++i)
          e[i] |= static_cast<std::uint32_t>(bytes[i]) << 8 * byte;
      }
      std::int64_t sum = 0;
      for (std::size_t i = 0; i < n; ++i) sum += e[i];
      auto* q = reinterpret_cast<std::uint8_t*>(out) + unit * n;
      for (std::size_t i = 0; i < n; ++i) q[i] = share(e[i], sum);
    }
  }

 private:
  // share is min(255, round_to_nearest_even(256 e / sum)), found bit by bit without a division: q
  // is at least t if 256 e / sum > t - 1/2, or equal to it and t even. The plan's binary64 quotient
  // rounds alike: it differs from e/sum by less than any e/sum differs from a half-integer that it
  // is not.
  static std::uint8_t share(std::uint32_t e, std::int64_t sum) noexcept {
    std::int64_t q = 0;
    for (std::int64_t bit = 128; bit != 0; bit >>= 1) {
      const std::int64_t t = q | bit;
      const std::int64_t over = 512 * static_cast<std::int64_t>(e) - (2 * t - 1) * sum + (~t & 1);
      q |= bit & ((-over) >> 63);  // over > 0
    }
    return static_cast<std::uint8_t>(q);
  }

  alignas(64) std::array<std::array<std::uint8_t, 256>, 4> planes_{};
  const field::Kernels& kernels_;
  model::Shape shape_;
};

// LrnOperator: a unit is one position (y, x); the window slides over its channels.
class LrnOperator final : public Operator {
 public:
  LrnOperator(const OperatorContext& x, const model::Lrn& op)
      : op_(op), shape_(x.out().shape), zero_(x.in(0).zero_point), to_(x.rounding(op.lo, op.hi)) {}
  [[nodiscard]] std::size_t units() const noexcept override { return shape_.positions(); }
  [[nodiscard]] std::size_t grain() const noexcept override { return 16; }

  void run(std::span<const std::uint8_t* const> inputs, std::byte* out, std::size_t first,
           std::size_t last, std::span<std::byte> /*scratch*/) const noexcept override {
    const std::size_t n = shape_.c;
    const std::size_t half = op_.size / 2;
    for (std::size_t unit = first; unit < last; ++unit) {
      const std::uint8_t* a = inputs[0] + unit * n;
      std::int32_t t = 0;
      for (std::size_t i = 0; i < std::min(half, n); ++i) t += square(a[i]);
      for (std::size_t c = 0; c < n; ++c) {
        if (c + half < n) t += square(a[c + half]);
        if (c > half) t -= square(a[c - half - 1]);
        const float v = static_cast<float>(a[c] - zero_) / norm(t) * op_.multiplier;
        const std::int32_t q = requantise(v, to_);  // a code is its lowest byte
        std::memcpy(element(out, to_, unit * n + c), &q, to_.wide ? sizeof(q) : 1);
      }
    }
  }

 private:
  [[nodiscard]] std::int32_t square(std::uint8_t a) const noexcept {
    return (a - zero_) * (a - zero_);
  }
  static float root(float v) noexcept { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(v))); }
  [[nodiscard]] float norm(std::int32_t t) const noexcept {
    const float d = op_.bias + static_cast<float>(t) * op_.alpha;
    if (op_.beta_quarters == 4) return d;
    const float first = root(d);
    return op_.beta_quarters == 2 ? first : first * root(first);
  }

  const model::Lrn& op_;
  model::Shape shape_;
  std::int32_t zero_;
  Requantise to_;
};

}  // namespace

OperatorPointer make(const OperatorContext& x, const model::Softmax& op) {
  return std::make_unique<SoftmaxOperator>(x, op);
}

OperatorPointer make(const OperatorContext& x, const model::Lrn& op) {
  return std::make_unique<LrnOperator>(x, op);
}

}  // namespace slalom::runtime
