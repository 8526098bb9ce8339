// SPDX-License-Identifier: Apache-2.0
#include "base/cpu.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace slalom::base {
namespace {

struct Leaf {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Leaf leaf(unsigned number, unsigned sub) noexcept {
  Leaf out;
  if (__get_cpuid_count(number, sub, &out.a, &out.b, &out.c, &out.d) == 0) return {};
  return out;
}

bool bit(unsigned word, unsigned index) noexcept { return ((word >> index) & 1U) != 0; }

std::uint64_t enabled_state() noexcept {
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<std::uint64_t>(high) << 32) | low;
}

// Linux gives the AMX tile registers only to processes that ask (arch_prctl, Linux 5.16).
bool ask_for_amx() noexcept {
  constexpr long kReqXcompPerm = 0x1023;
  constexpr long kTileData = 18;
  return syscall(SYS_arch_prctl, kReqXcompPerm, kTileData) == 0;
}

}  // namespace

CpuFeatures detect_cpu() noexcept {
  CpuFeatures f;
  const Leaf one = leaf(1, 0);
  const Leaf seven = leaf(7, 0);
  f.sse41 = bit(one.c, 19);
  f.aes = bit(one.c, 25);
  f.rdseed = bit(seven.b, 18);
  if (!bit(one.c, 27)) return f;  // without OSXSAVE no wider state may be used
  const std::uint64_t state = enabled_state();
  const bool ymm = (state & 0x6) == 0x6;
  const bool zmm = (state & 0xe6) == 0xe6;
  const bool tiles = (state & 0x60000) == 0x60000;
  f.avx2 = ymm && bit(one.c, 28) && bit(one.c, 12) && bit(seven.b, 5);
  f.vaes = f.avx2 && bit(seven.c, 9);
  f.avx512 = f.avx2 && zmm && bit(seven.b, 16) && bit(seven.b, 17) && bit(seven.b, 28) &&
             bit(seven.b, 30) && bit(seven.b, 31);
  f.avx512_ifma = f.avx512 && bit(seven.b, 21);
  f.avx512_vbmi = f.avx512 && bit(seven.c, 1);
  f.avx512_vnni = f.avx512 && bit(seven.c, 11);
  f.amx_int8 = f.avx512_vnni && tiles && bit(seven.d, 24) && bit(seven.d, 25) && ask_for_amx();
  return f;
}

}  // namespace slalom::base
