// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace slalom::base {

// REQUIRES: a + b does not overflow.
[[nodiscard]] constexpr std::size_t div_up(std::size_t a, std::size_t b) noexcept {
  return (a + b - 1) / b;
}
[[nodiscard]] constexpr std::size_t round_up(std::size_t a, std::size_t b) noexcept {
  return div_up(a, b) * b;
}

}  // namespace slalom::base
