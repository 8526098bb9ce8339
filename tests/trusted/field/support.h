// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "base/cpu.h"
#include "field/kernels.h"
#include "field/prime.h"
#include "field/random.h"

namespace slalom::field::test {

inline constexpr std::array<Field, 2> kFields = {Field::kP24, Field::kP31};

// supported_kernels lists what this CPU can run, fastest first.
inline std::vector<const Kernels*> supported_kernels() {
  const base::CpuFeatures cpu = base::detect_cpu();
  std::vector<const Kernels*> out;
  for (const Kernels* k : all_kernels()) {
    if (k->supported(cpu)) out.push_back(k);
  }
  return out;
}

inline const Kernels& portable() { return *all_kernels().back(); }

// SeededRandom is deterministic: for tests only.
class SeededRandom final : public Random {
 public:
  explicit SeededRandom(std::uint64_t seed) : engine_(seed) {}
  void fill(std::span<std::byte> out) noexcept override {
    for (std::byte& b : out) b = static_cast<std::byte>(engine_() >> 32);
  }

 private:
  std::mt19937_64 engine_;
};

class Dice {
 public:
  explicit Dice(std::uint64_t seed) : engine_(seed) {}
  std::uint64_t bits() { return engine_(); }
  // below returns a value in [0, n).
  std::uint64_t below(std::uint64_t n) { return engine_() % n; }
  std::int64_t between(std::int64_t lo, std::int64_t hi) {
    return lo + static_cast<std::int64_t>(below(static_cast<std::uint64_t>(hi - lo + 1)));
  }
  bool coin() { return (engine_() & 1) != 0; }
  // word is canonical: often an edge (0, 1, p/2, p/2 + 1, p - 1), else uniform.
  std::uint32_t word(Field f) {
    const std::uint32_t p = modulus(f);
    switch (below(12)) {
      case 0:
        return 0;
      case 1:
        return p - 1;
      case 2:
        return (p - 1) / 2;
      case 3:
        return (p + 1) / 2;
      case 4:
        return limb_centre(f);
      case 5:
        return limb_centre(f) + 1;
      default:
        return static_cast<std::uint32_t>(below(p));
    }
  }
  std::vector<std::uint32_t> words(Field f, std::size_t n) {
    std::vector<std::uint32_t> out(n);
    for (auto& w : out) w = word(f);
    return out;
  }
  std::vector<std::uint8_t> codes(std::size_t n) {
    std::vector<std::uint8_t> out(n);
    for (auto& q : out) q = below(8) == 0 ? (coin() ? 255 : 0) : static_cast<std::uint8_t>(bits());
    return out;
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace slalom::field::test
