// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include <cstring>

#include "base/target.h"
#include "field/arithmetic.h"
#include "field/kernels.h"
#include "field/kernels_list.h"

// AVX-512 with 52-bit multiply-add (IFMA), byte permutations (VBMI), dot products (VNNI) and wide
// AES: Ice Lake, Zen 4 and later.

SLALOM_TARGET_BEGIN(SLALOM_ISA_AVX512_IFMA)
namespace slalom::field {
namespace {

#include "field/vector_avx512.h"

// kOnes52 is 2^52 - 1: what IFMA sees of a lane.
constexpr std::uint64_t kOnes52 = (std::uint64_t{1} << 52) - 1;

// PackIndex: byte j of line i of four registers' 192 packed bytes comes from word (64i + j)/3, byte
// (64i + j)%3, which lies in register i or i + 1.
struct PackIndex {
  alignas(64) std::uint8_t line[3][64];
  constexpr PackIndex() noexcept : line{} {
    for (std::size_t i = 0; i < 3; ++i) {
      for (std::size_t j = 0; j < 64; ++j) {
        const std::size_t byte = i * 64 + j;  // of the 192
        line[i][j] = static_cast<std::uint8_t>(byte / 3 * 4 + byte % 3 - i * 64);
      }
    }
  }
};

struct Ifma : Avx512 {
  static W even(W a) noexcept { return _mm512_and_si512(a, set_pairs(0xffff'ffff)); }

  // ---- words of a slot, by one byte permutation ----
  static W spread_index() noexcept {
    return _mm512_setr_epi32(0x00'020100, 0x00'050403, 0x00'080706, 0x00'0b0a09, 0x00'0e0d0c,
                             0x00'11100f, 0x00'141312, 0x00'171615, 0x00'1a1918, 0x00'1d1c1b,
                             0x00'201f1e, 0x00'232221, 0x00'262524, 0x00'292827, 0x00'2c2b2a,
                             0x00'2f2e2d);
  }
  static W spread(W x) noexcept {
    return _mm512_maskz_permutexvar_epi8(0x7777'7777'7777'7777, spread_index(), x);
  }
  template <Field F>
  static W slot(const std::byte* at) noexcept {
    if constexpr (F == Field::kP31) return opaque(load(at));
    return spread(opaque(_mm512_maskz_loadu_epi32(0x0fff, at)));
  }
  template <Field F>
  static W slot_some(const std::byte* at, std::size_t n) noexcept {
    if constexpr (F == Field::kP31) return opaque(load_some(at, n));
    return spread(opaque(_mm512_maskz_loadu_epi8(bytes(3 * n), at)));
  }

  template <Field F>
  static void slots(const std::byte* at, W* v) noexcept {
    if constexpr (F == Field::kP31) return Avx512::slots<F>(at, v);
    const W a = opaque(load(at));
    const W b = opaque(load(at + kBytes));
    const W c = opaque(load(at + 2 * kBytes));
    v[0] = spread(a);
    v[1] = spread(_mm512_alignr_epi32(b, a, 12));
    v[2] = spread(_mm512_alignr_epi32(c, b, 8));
    v[3] = spread(_mm512_alignr_epi32(c, c, 4));
  }

  // ---- the check of the output side ----
  // A column times a is up to 76 bits wide: lo and hi keep its low 52 bits and the rest apart, so
  // that the sum is lo + 2^52 * hi. settle carries lo's excess over; 2^11 additions may lie
  // between.
  struct Sum {
    W lo, hi;
  };
  static Sum no_sum() noexcept { return {zero(), zero()}; }
  static void settle(Sum& sum) noexcept {
    sum.hi = add64(sum.hi, _mm512_srli_epi64(sum.lo, 52));
    sum.lo = _mm512_and_si512(sum.lo, set_pairs(kOnes52));
  }
  template <Field F>
  static W multiply_add(W sum, W x, W c) noexcept {
    if constexpr (F == Field::kP24) return _mm512_madd52lo_epu64(sum, x, c);
    return add64(sum, multiply(x, c));  // 55 bits
  }
  template <Field F>
  static void weigh(Sum& sum, W column, W a) noexcept {
    if constexpr (F == Field::kP31) column = fold<F>(column);  // 59 bits to 32
    sum.lo = _mm512_madd52lo_epu64(sum.lo, column, a);
    sum.hi = _mm512_madd52hi_epu64(sum.hi, column, a);
  }
  template <Field F>
  static std::uint32_t finish(const Sum& sum) noexcept {
    using M = Modulus<F>;
    constexpr std::uint32_t k2To52 = M::reduce(std::uint64_t{1} << 52);
    return M::add(Avx512::finish<F>(sum.lo), M::mul(Avx512::finish<F>(sum.hi), k2To52));
  }

  // ---- rounding ----
  static W look_up(const std::uint8_t* table, W codes) noexcept {
    const W low = _mm512_permutex2var_epi8(load(table), codes, load(table + 64));
    const W high = _mm512_permutex2var_epi8(load(table + 128), codes, load(table + 192));
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(codes), low, high);
  }
  static void apply_table(const std::uint8_t* table, std::uint8_t* codes, std::size_t n) noexcept {
    apply_table_with<Ifma>(table, codes, n);
  }

  // ---- packing ----
  template <Field F>
  static void stream_words(std::byte* at, const W* words) noexcept {
    if constexpr (F == Field::kP31) return Avx512::stream_words<F>(at, words);
    static constexpr PackIndex kIndex;
    for (std::size_t i = 0; i < 3; ++i) {
      stream(at + i * kBytes,
             _mm512_permutex2var_epi8(words[i], load(kIndex.line[i]), words[i + 1]));
    }
  }

  // ---- the check of the input side: byte limbs for vpdpbusd ----
  // |255 * -128 * 4| * 16,000 < 2^31.
  struct Check {
    using Limb = std::int8_t;
    template <Field F>
    static constexpr std::size_t kLimbs = num_limbs(F);
    template <Field F>
    static constexpr unsigned kShift = 8;
    static constexpr std::size_t kChunk = 64;
    static constexpr std::size_t kSteps = 16'000;
    static constexpr std::size_t kGroup = 4;
    static W codes(const std::uint8_t* at) noexcept { return load(at); }
    static W dot(W sum, W codes, W limbs) noexcept {
      return _mm512_dpbusd_epi32(sum, codes, limbs);
    }
  };
};

//
#include "field/vector_consume.h"
#include "field/vector_loops.h"
//
#include "field/vector_check.h"
//
#include "field/vector_aes.h"
#include "field/vector_table.h"

// Vaes: four blocks a register.
struct Vaes {
  using R = __m512i;
  static constexpr std::size_t kBlocks = 4;
  static R broadcast(const std::byte* key) noexcept {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(key)));
  }
  static R stream(std::uint64_t number) noexcept {
    const auto n = static_cast<long long>(number);
    return _mm512_setr_epi64(n, 0, n, 1, n, 2, n, 3);
  }
  static R counters(R stream, std::uint64_t block) noexcept {
    const R number = _mm512_mask_add_epi64(stream, 0xaa, stream,
                                           _mm512_set1_epi64(static_cast<long long>(block)));
    return _mm512_shuffle_epi8(number, _mm512_broadcast_i32x4(_mm_setr_epi8(
                                           7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8)));
  }
  static R exclusive_or(R a, R b) noexcept { return _mm512_xor_si512(a, b); }
  static R round(R x, R key) noexcept { return _mm512_aesenc_epi128(x, key); }
  static R last_round(R x, R key) noexcept { return _mm512_aesenclast_epi128(x, key); }
  static void store(std::byte* at, R x) noexcept { _mm512_storeu_si512(at, x); }
};

bool supported(const base::CpuFeatures& cpu) noexcept {
  return cpu.avx512_ifma && cpu.avx512_vbmi && cpu.avx512_vnni && cpu.aes && cpu.vaes;
}

}  // namespace

constexpr Kernels kAvx512IfmaKernels =
    kernels_over<Ifma>("avx512ifma", supported, pad_candidates<Ifma, Vaes>);

}  // namespace slalom::field
SLALOM_TARGET_END
