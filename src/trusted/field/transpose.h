// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "field/kernels.h"
#include "model/plan.h"

namespace slalom::field {

// Transpose applies the transpose of one Linear (zero padding) to a rank-one challenge a (x) c.
// With tap t = (ky, kx) of stage 0, which reads input row oy*stride_h + ky*dilation_h - pad_top
// (columns alike) for output position (oy, ox), and a' = a folded through stage 1 if there is one,
//   folded[t][i]    = sum over outputs o of i's group of a'[o] * w[o][t][i]           (`fold`)
//   s~[iy][ix][i]   = sum over (t, oy, ox) that read (iy, ix) of c[oy][ox] * folded[t][i]   (`row`)
//   outside         = sum over (t, oy, ox) that read no input of c[oy][ox] * sum_i folded[t][i]
// (the adjoint of a convolution). Any stride, dilation and groups.
// Refers to the Linear, which must outlive it. Thread-safe (const).
class Transpose {
 public:
  Transpose(const model::Linear& layer, const Kernels& kernels) noexcept;

  [[nodiscard]] Field field() const noexcept { return field_; }
  [[nodiscard]] const model::Conv& conv() const noexcept { return *conv_; }  // of stage 0
  [[nodiscard]] std::size_t out_channels() const noexcept { return out_channels_; }
  [[nodiscard]] std::size_t folded_words() const noexcept { return conv_->taps() * conv_->in.c; }
  [[nodiscard]] std::size_t middle_words() const noexcept;  // scratch of fold
  [[nodiscard]] std::size_t row_words() const noexcept {
    return static_cast<std::size_t>(conv_->in.w) * conv_->in.c;
  }

  // fold: a has out_channels() canonical words; folded is [taps][in.c]; middle is scratch.
  void fold(std::span<const std::uint32_t> a, std::span<std::uint32_t> middle,
            std::span<std::uint32_t> folded) const noexcept;
  // row computes s~ of input row iy: [in.w][in.c]. c: one canonical word an output position.
  void row(std::span<const std::uint32_t> folded, std::span<const std::uint32_t> c, std::size_t iy,
           std::span<std::uint32_t> out) const noexcept;
  // outside: see above; the padding constant's factor.
  [[nodiscard]] std::uint32_t outside(std::span<const std::uint32_t> folded,
                                      std::span<const std::uint32_t> c) const noexcept;

 private:
  const model::Linear* layer_;
  const model::Conv* conv_;
  const Kernels* kernels_;
  Field field_;
  std::size_t out_channels_;
};

}  // namespace slalom::field
