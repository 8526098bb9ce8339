// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "field/prime.h"

// Scalar arithmetic on words. Every function takes the same time for all values: the modulus is a
// constant, so nothing compiles to a division, and selections are made with masks.

namespace slalom::field {

// Modulus<F> holds what differs between the fields. Both primes are 2^kBits - kFold with a tiny
// kFold (pseudo-Mersenne; Crandall, US patent 5,159,632, expired), so x = hi*2^kBits + lo is
// congruent to lo + kFold*hi.
template <Field F>
struct Modulus {
  static constexpr std::uint32_t kP = modulus(F);
  static constexpr unsigned kBits = F == Field::kP24 ? 24 : 31;
  static constexpr std::uint32_t kFold = F == Field::kP24 ? 3 : 1;
  static constexpr std::uint32_t kMask = (1U << kBits) - 1;

  // fold brings x closer to [0, p) without changing its residue.
  // p24: 64 bits -> 42 bits -> below 2^24 + 3*2^18 -> below 2^24 + 3.
  // p31: 64 bits -> below 2^33 + 2^31 -> below 2^31 + 5 -> at most 2^31.
  [[nodiscard]] static constexpr std::uint64_t fold(std::uint64_t x) noexcept {
    return (x & kMask) + std::uint64_t{kFold} * (x >> kBits);
  }
  // reduce returns x mod p, canonical. Any x.
  [[nodiscard]] static constexpr std::uint32_t reduce(std::uint64_t x) noexcept {
    const std::uint64_t y = fold(fold(fold(x)));  // below 2p
    const std::uint64_t z = y - kP;
    return static_cast<std::uint32_t>(z + (kP & (0 - (z >> 63))));
  }
  // add, sub and mul take and return canonical words.
  [[nodiscard]] static constexpr std::uint32_t add(std::uint32_t a, std::uint32_t b) noexcept {
    return reduce(std::uint64_t{a} + b);
  }
  [[nodiscard]] static constexpr std::uint32_t sub(std::uint32_t a, std::uint32_t b) noexcept {
    return reduce(std::uint64_t{a} + kP - b);
  }
  [[nodiscard]] static constexpr std::uint32_t mul(std::uint32_t a, std::uint32_t b) noexcept {
    return reduce(std::uint64_t{a} * b);
  }
  // reduce_signed returns x mod p, canonical. REQUIRES: |x| < 2^62.
  [[nodiscard]] static constexpr std::uint32_t reduce_signed(std::int64_t x) noexcept {
    // A multiple of p above 2^62 makes the sum positive.
    constexpr std::uint64_t kLift = (((std::uint64_t{1} << 62) / kP) + 1) * kP;
    return reduce(static_cast<std::uint64_t>(x) + kLift);
  }
};

[[nodiscard]] constexpr std::uint32_t reduce(std::uint64_t x, Field f) noexcept {
  return f == Field::kP24 ? Modulus<Field::kP24>::reduce(x) : Modulus<Field::kP31>::reduce(x);
}
[[nodiscard]] constexpr std::uint32_t add(std::uint32_t a, std::uint32_t b, Field f) noexcept {
  return reduce(std::uint64_t{a} + b, f);
}
[[nodiscard]] constexpr std::uint32_t sub(std::uint32_t a, std::uint32_t b, Field f) noexcept {
  return reduce(std::uint64_t{a} + modulus(f) - b, f);
}
[[nodiscard]] constexpr std::uint32_t mul(std::uint32_t a, std::uint32_t b, Field f) noexcept {
  return reduce(std::uint64_t{a} * b, f);
}
// reduce_signed returns x mod p, canonical. REQUIRES: |x| < 2^62.
[[nodiscard]] constexpr std::uint32_t reduce_signed(std::int64_t x, Field f) noexcept {
  return f == Field::kP24 ? Modulus<Field::kP24>::reduce_signed(x)
                          : Modulus<Field::kP31>::reduce_signed(x);
}

// limb_centred is the signed value that is cut into balanced digits: w itself up to limb_centre(f),
// else w - p. REQUIRES: w < p.
[[nodiscard]] constexpr std::int32_t limb_centred(std::uint32_t w, Field f) noexcept {
  const std::uint32_t above = 0 - ((limb_centre(f) - w) >> 31);  // w and the centre are below 2^31
  return static_cast<std::int32_t>(w - (modulus(f) & above));
}

}  // namespace slalom::field
