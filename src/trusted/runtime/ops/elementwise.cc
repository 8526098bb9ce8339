// SPDX-License-Identifier: Apache-2.0
// Add, Mul, Table, Prelu: one output element from the elements at the same place.

#include <algorithm>
#include <array>
#include <cstring>

#include "runtime/ops/operator.h"

namespace slalom::runtime {
namespace {

constexpr std::size_t kGrain = 4096;

// Broadcast walks a range of output elements as runs in which each operand either moves on with the
// output or stays at one element. Axes of length 1 are dropped and neighbouring axes that broadcast
// alike are merged, so two tensors of one shape are a single run.
class Broadcast {
 public:
  Broadcast(const model::Shape& out, const model::Shape& a, const model::Shape& b) {
    const std::array<std::array<std::size_t, 3>, 3> axes = {
        {{out.h, a.h, b.h}, {out.w, a.w, b.w}, {out.c, a.c, b.c}}};
    for (const auto& [n, na, nb] : axes) {
      if (n == 1) continue;
      const bool moves_a = na != 1;
      const bool moves_b = nb != 1;
      if (rank_ > 0 && moves_a == moves_[rank_ - 1][0] && moves_b == moves_[rank_ - 1][1]) {
        length_[rank_ - 1] *= n;
      } else {
        length_[rank_] = n;
        moves_[rank_] = {moves_a, moves_b};
        ++rank_;
      }
    }
    if (rank_ == 0) {
      rank_ = 1;
      length_[0] = 1;
      moves_[0] = {true, true};
    }
  }

  [[nodiscard]] bool both_move() const noexcept { return moves(0) && moves(1); }
  // moves says whether an operand moves within a run.
  [[nodiscard]] bool moves(std::size_t operand) const noexcept {
    return moves_[rank_ - 1][operand];
  }
  [[nodiscard]] std::size_t run_length() const noexcept { return length_[rank_ - 1]; }

  // offset is where an operand's element for output element i lies.
  [[nodiscard]] std::size_t offset(std::size_t operand, std::size_t i) const noexcept {
    std::size_t at = 0;
    std::size_t stride = 1;
    for (std::size_t axis = rank_; axis-- > 0; i /= length_[axis]) {
      if (!moves_[axis][operand]) continue;
      at += (i % length_[axis]) * stride;
      stride *= length_[axis];
    }
    return at;
  }

 private:
  std::size_t rank_ = 0;
  std::array<std::size_t, 3> length_{};
  std::array<std::array<bool, 2>, 3> moves_{};
};

// kSpread is the length of the buffer in which a broadcast element is repeated for the row kernels.
constexpr std::size_t kSpread = 1024;

// Flat is an operator whose units are single elements.
class Flat : public Operator {
 public:
  explicit Flat(const OperatorContext& x) : elements_(x.out().shape.elements()) {}
  [[nodiscard]] std::size_t units() const noexcept override { return elements_; }
  [[nodiscard]] std::size_t grain() const noexcept override { return kGrain; }
  [[nodiscard]] bool flat() const noexcept override { return true; }

 private:
  std::size_t elements_;
};

// Binary is Add or Mul; Row is the kernel's constants.
template <class Row>
class Binary final : public Flat {
 public:
  using Kernel = void (*)(const std::uint8_t*, const std::uint8_t*, std::size_t, const Row&,
                          std::byte*) noexcept;

  Binary(const OperatorContext& x, const Row& row, Kernel kernel)
      : Flat(x), row_(row), kernel_(kernel), walk_(x.out().shape, x.in(0).shape, x.in(1).shape) {}

  void run(std::span<const std::uint8_t* const> inputs, std::byte* out, std::size_t first,
           std::size_t last, std::span<std::byte> /*scratch*/) const noexcept override {
    std::uint8_t spread[kSpread];
    while (first < last) {
      const std::size_t left = walk_.run_length() - first % walk_.run_length();
      std::size_t n = std::min(left, last - first);
      const std::uint8_t* a = inputs[0] + walk_.offset(0, first);
      const std::uint8_t* b = inputs[1] + walk_.offset(1, first);
      // At most one operand stays in place: an axis where both did would have length 1.
      if (!walk_.both_move()) {
        n = std::min(n, kSpread);
        const std::uint8_t*& still = walk_.moves(0) ? b : a;
        std::memset(spread, *still, n);
        still = spread;
      }
      kernel_(a, b, n, row_, element(out, row_.to, first));
      first += n;
    }
  }

 private:
  Row row_;
  Kernel kernel_;
  Broadcast walk_;
};

class TableOperator final : public Flat {
 public:
  TableOperator(const OperatorContext& x, const model::Table& op)
      : Flat(x), kernels_(x.field_kernels) {
    std::copy(op.table.begin(), op.table.end(), table_.begin());
  }

  void run(std::span<const std::uint8_t* const> inputs, std::byte* out, std::size_t first,
           std::size_t last, std::span<std::byte> /*scratch*/) const noexcept override {
    auto* codes = reinterpret_cast<std::uint8_t*>(out) + first;
    std::memcpy(codes, inputs[0] + first, last - first);
    kernels_.apply_table(table_.data(), codes, last - first);
  }

 private:
  alignas(64) std::array<std::uint8_t, 256> table_{};
  const field::Kernels& kernels_;
};

class PreluOperator final : public Flat {
 public:
  PreluOperator(const OperatorContext& x, const model::Prelu& op)
      : Flat(x),
        row_{.zero = x.in(0).zero_point, .multiplier = op.positive, .to = x.rounding(op.lo, op.hi)},
        negative_(op.negative),
        kernel_(x.kernels.prelu) {}

  void run(std::span<const std::uint8_t* const> inputs, std::byte* out, std::size_t first,
           std::size_t last, std::span<std::byte> /*scratch*/) const noexcept override {
    while (first < last) {
      const std::size_t channel = first % negative_.size();
      const std::size_t n = std::min(negative_.size() - channel, last - first);
      kernel_(inputs[0] + first, negative_.data() + channel, n, row_, element(out, row_.to, first));
      first += n;
    }
  }

 private:
  ScaleRow row_;
  const std::vector<float>& negative_;
  decltype(OpKernels::prelu) kernel_;
};

}  // namespace

OperatorPointer make(const OperatorContext& x, const model::Add& op) {
  const AddRow row{.zero_a = x.in(0).zero_point,
                   .zero_b = x.in(1).zero_point,
                   .multiplier_a = op.multiplier_a,
                   .multiplier_b = op.multiplier_b,
                   .to = x.rounding(op.lo, op.hi)};
  return std::make_unique<Binary<AddRow>>(x, row, x.kernels.add);
}

OperatorPointer make(const OperatorContext& x, const model::Mul& op) {
  const MulRow row{.zero_a = x.in(0).zero_point,
                   .zero_b = x.in(1).zero_point,
                   .multiplier = op.multiplier,
                   .to = x.rounding(op.lo, op.hi)};
  return std::make_unique<Binary<MulRow>>(x, row, x.kernels.mul);
}

OperatorPointer make(const OperatorContext& x, const model::Table& op) {
  return std::make_unique<TableOperator>(x, op);
}

OperatorPointer make(const OperatorContext& x, const model::Prelu& op) {
  return std::make_unique<PreluOperator>(x, op);
}

}  // namespace slalom::runtime
