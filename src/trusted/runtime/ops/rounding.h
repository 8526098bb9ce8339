// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace slalom::runtime {

// Requantise holds the integers of the one rounding rule (model/plan.h, "Rounding"):
//   requantise(v) = clamp(round_to_nearest_even(clamp(v, -2^30, 2^30)) + zero_point, lo, hi).
struct Requantise {
  std::int32_t zero_point = 0;
  std::int32_t lo = 0;
  std::int32_t hi = 255;
  bool wide = false;  // results are kept as int32, not as codes
};

inline constexpr float kRoundLimit = 1073741824.0F;  // 2^30

// round_to_integer clamps v to [-2^30, 2^30] and rounds to nearest even. v may be infinite, but no
// validated plan can make a NaN. REQUIRES: the rounding mode of FloatEnvironment.
[[nodiscard]] inline std::int32_t round_to_integer(float v) noexcept {
  // MINSS and MAXSS: no branch.
  const __m128 low = _mm_min_ss(_mm_set_ss(v), _mm_set_ss(kRoundLimit));
  return _mm_cvtss_si32(_mm_max_ss(low, _mm_set_ss(-kRoundLimit)));
}

[[nodiscard]] inline std::int32_t requantise(float v, const Requantise& q) noexcept {
  // Clamps by masks: 64 bits hold every difference, and no compiler needs a branch.
  std::int64_t above = std::int64_t{round_to_integer(v)} + q.zero_point - q.lo;
  above &= ~(above >> 63);
  std::int64_t below = std::int64_t{q.hi} - q.lo - above;
  below &= ~(below >> 63);
  return static_cast<std::int32_t>(q.hi - below);
}

// larger_code is the maximum without a branch (a compiler may make one of std::max).
[[nodiscard]] inline std::uint8_t larger_code(std::uint8_t a, std::uint8_t b) noexcept {
  return static_cast<std::uint8_t>(
      _mm_cvtsi128_si32(_mm_max_epu8(_mm_cvtsi32_si128(a), _mm_cvtsi32_si128(b))));
}

// FloatEnvironment sets this thread's SSE state to the one that the rounding rule needs (nearest
// even, subnormals kept, no traps) and puts the caller's back at the end of its life.
class FloatEnvironment {
 public:
  FloatEnvironment() noexcept : saved_(_mm_getcsr()) { _mm_setcsr(kNearestEven); }
  ~FloatEnvironment() { _mm_setcsr(saved_); }
  FloatEnvironment(const FloatEnvironment&) = delete;
  FloatEnvironment& operator=(const FloatEnvironment&) = delete;

 private:
  static constexpr unsigned kNearestEven = 0x1f80;
  unsigned saved_;
};

}  // namespace slalom::runtime
