// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "field/kernels.h"
#include "model/plan.h"

namespace slalom::field {

// Transpose applies the transpose of one Linear (zero padding) to a rank-one challenge a (x) c.
// With tap t = (ky, kx) of stage 0, which reads input row oy*stride_h + ky*dilation_h - pad_top
// (columns alike) for output position (oy, ox), and a' = a folded through stage 1 if there is one:
//
//   folded[t][i]   = sum over outputs o of i's group of a'[o] * w[o][t][i]
//   s~[iy][ix][i]  = sum over (t, oy, ox) that read (iy, ix) of c[oy][ox] * folded[t][i]
//
// (the adjoint of a convolution). Any stride, dilation and groups. Everything mod p, canonical.
// Refers to the Linear, which must outlive it. Thread-safe (const); only the constructor allocates.
class Transpose {
 public:
  // REQUIRES: a validated Linear with a field.
  Transpose(const model::Linear& layer, const Kernels& kernels);

  [[nodiscard]] Field field() const noexcept { return field_; }
  [[nodiscard]] std::size_t out_channels() const noexcept { return out_channels_; }
  [[nodiscard]] std::size_t out_positions() const noexcept { return conv_->out.positions(); }
  [[nodiscard]] std::size_t rows() const noexcept { return conv_->in.h; }
  [[nodiscard]] std::size_t row_words() const noexcept {
    return static_cast<std::size_t>(conv_->in.w) * conv_->in.c;
  }
  [[nodiscard]] std::size_t folded_words() const noexcept { return conv_->taps() * conv_->in.c; }
  [[nodiscard]] std::size_t middle_words() const noexcept {
    return second_rows_.empty() ? 0 : conv_->out.c;
  }

  // fold: a has out_channels() words, middle middle_words() of scratch, folded folded_words().
  void fold(std::span<const std::uint32_t> a, std::span<std::uint32_t> middle,
            std::span<std::uint32_t> folded) const noexcept;
  // row computes row iy of s~: row_words() words. c: one word an output position.
  void row(std::span<const std::uint32_t> folded, std::span<const std::uint32_t> c, std::size_t iy,
           std::span<std::uint32_t> out) const noexcept;

  // Sums: inside is the sum of all of s~; outside is what a constant input of 1 in the padding adds
  // to the output side, the sum over (t, oy, ox) that read no input of c[oy][ox] * sum_i
  // folded[t][i].
  struct Sums {
    std::uint32_t inside = 0;
    std::uint32_t outside = 0;
  };
  [[nodiscard]] Sums sums(std::span<const std::uint32_t> folded,
                          std::span<const std::uint32_t> c) const noexcept;

 private:
  const model::Conv* conv_;  // of stage 0
  const Kernels* kernels_;
  Field field_;
  std::size_t out_channels_;
  std::vector<const std::int8_t*> first_rows_;   // weights of each output channel of stage 0
  std::vector<const std::int8_t*> second_rows_;  // of stage 1, if there is one
};

}  // namespace slalom::field
