// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace slalom::base {

// checked_mul returns nothing when the exact result does not fit the type.
template <std::integral T>
[[nodiscard]] constexpr std::optional<T> checked_mul(T a, T b) noexcept {
  T out{};
  if (__builtin_mul_overflow(a, b, &out)) return std::nullopt;
  return out;
}

[[nodiscard]] constexpr std::size_t div_up(std::size_t a, std::size_t b) noexcept {
  return (a + b - 1) / b;
}
[[nodiscard]] constexpr std::size_t round_up(std::size_t a, std::size_t b) noexcept {
  return div_up(a, b) * b;
}

}  // namespace slalom::base
