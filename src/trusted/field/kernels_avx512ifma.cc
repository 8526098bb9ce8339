// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include <cstring>

#include "base/round_up.h"
#include "base/secret.h"
#include "base/target.h"
#include "field/arithmetic.h"
#include "field/kernels.h"

// AVX-512 with 52-bit multiply-add (IFMA), byte permutations (VBMI), dot products (VNNI) and wide
// AES: Ice Lake, Zen 4 and later.

SLALOM_TARGET_BEGIN(SLALOM_ISA_AVX512_IFMA)
namespace slalom::field {
namespace {

constexpr std::size_t kBytes = 64;

#include "field/vector.h"
//
#include "field/vector_avx512.h"

// ---- words of three bytes, by one byte permutation ----

// PackIndex: byte j of line i of four registers' 192 packed bytes comes from word (64i + j)/3, byte
// (64i + j)%3, which lies in register i or i + 1. Byte j of `spread` comes from packed byte
// j/4*3 + j%4, if that is one of a word's three.
struct PackIndex {
  alignas(64) std::uint8_t line[3][64];
  alignas(64) std::uint8_t spread[64];
  constexpr PackIndex() noexcept : line{}, spread{} {
    for (std::size_t j = 0; j < 192; ++j) {
      line[j / 64][j % 64] = static_cast<std::uint8_t>(j / 3 * 4 + j % 3 - j / 64 * 64);
    }
    for (std::size_t j = 0; j < 64; ++j) spread[j] = static_cast<std::uint8_t>(j / 4 * 3 + j % 4);
  }
};
constexpr PackIndex kIndex;

inline Words permute_bytes(Words a, const std::uint8_t* index, Words b) noexcept {
  return Words(_mm512_permutex2var_epi8(__m512i(a), __m512i(load(index)), __m512i(b)));
}
inline Words spread(Words x) noexcept {
  return Words(_mm512_maskz_permutexvar_epi8(0x7777'7777'7777'7777, __m512i(load(kIndex.spread)),
                                             __m512i(x)));
}
inline Words packed(Words x) noexcept { return permute_bytes(x, kIndex.line[0], x); }
inline void stream_packed(std::byte* at, const Words* words) noexcept {
  for (std::size_t i = 0; i < 3; ++i) {
    stream(at + i * kBytes, permute_bytes(words[i], kIndex.line[i], words[i + 1]));
  }
}
inline Words look_up(const std::uint8_t* table, Words codes) noexcept {
  const auto index = __m512i(codes);
  const __m512i low =
      _mm512_permutex2var_epi8(__m512i(load(table)), index, __m512i(load(table + 64)));
  const __m512i high =
      _mm512_permutex2var_epi8(__m512i(load(table + 128)), index, __m512i(load(table + 192)));
  return Words(_mm512_mask_blend_epi8(_mm512_movepi8_mask(index), low, high));
}

// ---- the check of the output side ----
// A column times a is up to 76 bits wide: low and high keep its low 52 bits and the rest apart, so
// that the sum is low + 2^52 * high. settle carries low's excess over; 2^11 additions may lie
// between. A column is what the instruction takes: g++ 12 copies accumulators of another type.

using Column = __m512i;
struct Sum {
  Pairs low, high;
};
inline void settle(Sum& sum) noexcept {
  sum.high += sum.low >> 52;
  sum.low &= (std::uint64_t{1} << 52) - 1;
}
inline Pairs even(Words x) noexcept { return Pairs(x) & 0xffff'ffff; }

template <Field F>
Column multiply_add(Column sum, Pairs x, Pairs c) noexcept {
  if constexpr (F == Field::kP31) return Column(Pairs(sum) + multiply(x, c));  // 55 bits
  return _mm512_madd52lo_epu64(sum, __m512i(x), __m512i(c));
}
template <Field F>
void weigh(Sum& sum, Column column, Pairs a) noexcept {
  if constexpr (F == Field::kP31) column = Column(fold<F>(Pairs(column)));  // 59 bits to 32
  sum.low = Pairs(_mm512_madd52lo_epu64(__m512i(sum.low), column, __m512i(a)));
  sum.high = Pairs(_mm512_madd52hi_epu64(__m512i(sum.high), column, __m512i(a)));
}
template <Field F>
std::uint32_t finish(const Sum& sum) noexcept {
  using M = Modulus<F>;
  constexpr std::uint32_t k2To52 = M::reduce(std::uint64_t{1} << 52);
  return M::add(sum_lanes<F>(sum.low), M::mul(sum_lanes<F>(sum.high), k2To52));
}

// ---- the check of the input side: byte limbs for vpdpbusd ----
// |255 * -128| * 64,000 < 2^31, and a lane takes four products a block.

using Limb = std::int8_t;
template <Field F>
constexpr std::size_t kLimbs = num_limbs(F);
template <Field F>
constexpr unsigned kShift = 8;
constexpr std::size_t kSteps = 16'000;

inline Words code_lanes(const std::uint8_t* at) noexcept { return load(at); }
inline Words multiply_codes(Words sum, Words codes, Words limbs) noexcept {
  return Words(_mm512_dpbusd_epi32(__m512i(sum), __m512i(codes), __m512i(limbs)));
}

// ---- pads: four blocks a register ----

using Blocks = __m512i;
inline Blocks all_blocks(__m128i x) noexcept { return _mm512_broadcast_i32x4(x); }
inline Blocks aes_round(Blocks x, Blocks key) noexcept { return _mm512_aesenc_epi128(x, key); }
inline Blocks last_aes_round(Blocks x, Blocks key) noexcept {
  return _mm512_aesenclast_epi128(x, key);
}
inline Blocks shuffle_blocks(Blocks x, Blocks index) noexcept {
  return _mm512_shuffle_epi8(x, index);
}

#include "field/vector_table.h"

bool supported(const base::CpuFeatures& cpu) noexcept {
  return cpu.avx512_ifma && cpu.avx512_vbmi && cpu.avx512_vnni && cpu.aes && cpu.vaes;
}

}  // namespace

constexpr Kernels kAvx512IfmaKernels = kernels_of("avx512ifma", supported);

}  // namespace slalom::field
SLALOM_TARGET_END
