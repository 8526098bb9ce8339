// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "field/prime.h"
#include "model/plan.h"

namespace slalom::vault {

// naive_linear computes W x mod p with zero padding, one term at a time.
inline std::vector<std::uint32_t> naive_linear(const model::Linear& linear,
                                               const std::vector<std::uint32_t>& x) {
  const auto p = static_cast<__int128>(field::modulus(*linear.field));
  std::vector<std::uint32_t> in = x;
  for (const auto& stage : linear.stages) {
    const model::Conv& c = stage.conv;
    std::vector<std::uint32_t> out(c.out.elements());
    for (std::size_t oy = 0; oy < c.out.h; ++oy) {
      for (std::size_t ox = 0; ox < c.out.w; ++ox) {
        for (std::size_t o = 0; o < c.out.c; ++o) {
          __int128 sum = 0;
          for (std::size_t t = 0; t < c.terms(); ++t) {
            const std::size_t i = t % c.group_in();
            const std::size_t tap = t / c.group_in();
            const auto y =
                static_cast<std::int64_t>(oy * c.window.stride_h +
                                          tap / c.window.kernel_w * c.window.dilation_h) -
                c.window.pad_top;
            const auto xx =
                static_cast<std::int64_t>(ox * c.window.stride_w +
                                          tap % c.window.kernel_w * c.window.dilation_w) -
                c.window.pad_left;
            if (y < 0 || xx < 0 || y >= c.in.h || xx >= c.in.w) continue;
            const std::size_t at =
                (static_cast<std::size_t>(y) * c.in.w + static_cast<std::size_t>(xx)) * c.in.c +
                o / c.group_out() * c.group_in() + i;
            sum += static_cast<__int128>(stage.weights[o * c.terms() + t]) * in[at];
          }
          out[(oy * c.out.w + ox) * c.out.c + o] = static_cast<std::uint32_t>((sum % p + p) % p);
        }
      }
    }
    in = std::move(out);
  }
  return in;
}

}  // namespace slalom::vault
