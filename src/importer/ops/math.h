// SPDX-License-Identifier: Apache-2.0
// exp, log and what follows from them, in double arithmetic of our own: libm chooses its code by
// CPU, so its last bits are not the same everywhere. Errors stay below 2^-48 relative, so that
// rounding to float is right but for about one value in ten million.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

namespace slalom::importer {

// exp_double returns e^x; below -708 it returns 0, above 709 infinity.
// e^x = 2^n e^r with n = round(x / ln 2), |r| <= ln(2) / 2, and the Taylor series of e^r up to
// r^13 (remainder below 2^-57).
inline double exp_double(double x) noexcept {
  if (x != x) return x;
  if (x > 709.0) return std::numeric_limits<double>::infinity();
  if (x < -708.0) return 0.0;
  constexpr double kRound = 0x1.8p52;  // adding and subtracting it rounds to an integer
  const double n = (x * 1.4426950408889634 + kRound) - kRound;
  // ln 2 in two parts, the first with 20 zero bits at its end, so that n times it is exact.
  const double r = (x - n * 0x1.62e42fefp-1) - n * 0x1.473de6af278edp-34;
  double sum = 1.0 / 6227020800.0;
  sum = sum * r + 1.0 / 479001600.0;
  sum = sum * r + 1.0 / 39916800.0;
  sum = sum * r + 1.0 / 3628800.0;
  sum = sum * r + 1.0 / 362880.0;
  sum = sum * r + 1.0 / 40320.0;
  sum = sum * r + 1.0 / 5040.0;
  sum = sum * r + 1.0 / 720.0;
  sum = sum * r + 1.0 / 120.0;
  sum = sum * r + 1.0 / 24.0;
  sum = sum * r + 1.0 / 6.0;
  sum = sum * r + 0.5;
  sum = sum * r + 1.0;
  sum = sum * r + 1.0;
  const auto exponent = static_cast<std::uint64_t>(static_cast<std::int64_t>(n) + 1023);
  return sum * std::bit_cast<double>(exponent << 52U);
}

// expm1_double returns e^x - 1, also near 0.
inline double expm1_double(double x) noexcept {
  if (x > -1e-5 && x < 1e-5) return x + 0.5 * x * x + x * x * x / 6.0;
  return exp_double(x) - 1.0;
}

// log_double returns ln x: -infinity at 0, NaN below. x = 2^e m with m in [sqrt(1/2), sqrt(2)),
// ln m = 2 artanh(s) = 2 (s + s^3/3 + ... + s^23/23), s = (m - 1) / (m + 1), |s| < 0.1716.
inline double log_double(double x) noexcept {
  if (x != x || x < 0.0) return std::numeric_limits<double>::quiet_NaN();
  if (x == 0.0) return -std::numeric_limits<double>::infinity();
  if (x > std::numeric_limits<double>::max()) return x;
  double e = 0.0;
  if (x < std::numeric_limits<double>::min()) {  // subnormal
    x *= 0x1p54;
    e = -54.0;
  }
  const auto bits = std::bit_cast<std::uint64_t>(x);
  e += static_cast<double>(static_cast<std::int64_t>(bits >> 52U) - 1023);
  double m = std::bit_cast<double>((bits & 0xFFFFFFFFFFFFFU) | (std::uint64_t{1023} << 52U));
  if (m > 1.4142135623730951) {
    m *= 0.5;
    e += 1.0;
  }
  const double s = (m - 1.0) / (m + 1.0);
  const double square = s * s;
  double sum = 1.0 / 23.0;
  for (int k = 21; k >= 1; k -= 2) sum = sum * square + 1.0 / k;
  return e * 0x1.62e42fefp-1 + (2.0 * s * sum + e * 0x1.473de6af278edp-34);
}

inline float sigmoid_float(float x) noexcept {
  return static_cast<float>(1.0 / (1.0 + exp_double(-static_cast<double>(x))));
}

// tanh x = (e^2x - 1) / (e^2x + 1).
inline float tanh_float(float x) noexcept {
  if (x > 20.0F) return 1.0F;
  if (x < -20.0F) return -1.0F;
  const double twice = expm1_double(2.0 * static_cast<double>(x));
  return static_cast<float>(twice / (twice + 2.0));
}

}  // namespace slalom::importer
