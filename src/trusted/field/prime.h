// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace slalom::field {

// Field names one of the two prime fields in which words cross the border. The value is the number
// of bytes of a word on the wire (little-endian). DO NOT CHANGE THESE VALUES: they are embedded in
// plans and messages.
enum class Field : std::uint8_t {
  kP24 = 3,  // p = 2^24 - 3
  kP31 = 4,  // p = 2^31 - 1
};
constexpr auto range_of(Field) { return std::pair(Field::kP24, Field::kP31); }

inline constexpr std::uint32_t kP24 = (1U << 24) - 3;
inline constexpr std::uint32_t kP31 = (1U << 31) - 1;

// kChallengeRange is N of the soundness bound: challenge entries are uniform in [0, N).
inline constexpr std::uint32_t kChallengeRange = kP24;

[[nodiscard]] constexpr std::uint32_t modulus(Field f) noexcept {
  return f == Field::kP24 ? kP24 : kP31;
}
[[nodiscard]] constexpr std::size_t word_bytes(Field f) noexcept {
  return static_cast<std::size_t>(f);
}
// num_limbs is the number of balanced base-256 digits (each in -128..127) of a centred word.
[[nodiscard]] constexpr std::size_t num_limbs(Field f) noexcept {
  return static_cast<std::size_t>(f);
}
// limb_centre is the largest word that is taken as itself before it is cut into digits; larger
// words v become v - p. (Centring at p/2 would overflow the top digit.) 127*(256^n - 1)/255.
[[nodiscard]] constexpr std::uint32_t limb_centre(Field f) noexcept {
  return f == Field::kP24 ? 8'355'711U : 2'139'062'143U;
}

// to_word maps any int32 to its residue in [0, p). to_signed maps a word < p to the representative
// in (-p/2, p/2). Both take the same time for every value (the moduli are constants: no division).
[[nodiscard]] constexpr std::uint32_t to_word(std::int32_t v, Field f) noexcept {
  const std::int64_t r = f == Field::kP24 ? std::int64_t{v} % kP24 : std::int64_t{v} % kP31;
  return static_cast<std::uint32_t>(r + ((r >> 63) & static_cast<std::int64_t>(modulus(f))));
}
[[nodiscard]] constexpr std::int32_t to_signed(std::uint32_t w, Field f) noexcept {
  const auto p = static_cast<std::int64_t>(modulus(f));
  const auto v = static_cast<std::int64_t>(w);
  return static_cast<std::int32_t>(v - ((((p / 2) - v) >> 63) & p));
}

}  // namespace slalom::field
