// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include <cstring>

#include "base/target.h"
#include "field/arithmetic.h"
#include "field/kernels.h"
#include "field/kernels_list.h"

SLALOM_TARGET_BEGIN(SLALOM_ISA_AVX2 "," SLALOM_ISA_AES)
namespace slalom::field {
namespace {

// opaque hides where a value came from: the compiler must keep the register and cannot load again.
[[gnu::always_inline]] inline __m256i opaque(__m256i x) noexcept {
  __asm__ volatile("" : "+x"(x));
  return x;
}

struct Avx2 {
  using W = __m256i;
  static constexpr std::size_t kWidth = 8;
  static constexpr std::size_t kBytes = 32;

  static __m256i mask(std::size_t n) noexcept {
    return _mm256_cmpgt_epi32(set(static_cast<std::uint32_t>(n)),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }

  static W zero() noexcept { return _mm256_setzero_si256(); }
  static W set(std::uint32_t x) noexcept { return _mm256_set1_epi32(static_cast<int>(x)); }
  static W set_float(float x) noexcept { return _mm256_castps_si256(_mm256_set1_ps(x)); }
  static W set_pairs(std::uint64_t x) noexcept {
    return _mm256_set1_epi64x(static_cast<long long>(x));
  }
  static W set64(const std::uint64_t* x) noexcept {
    return _mm256_set1_epi64x(static_cast<long long>(*x));
  }
  static W load(const void* at) noexcept {
    return _mm256_loadu_si256(static_cast<const __m256i*>(at));
  }
  static W load_some(const void* at, std::size_t n) noexcept {
    return _mm256_maskload_epi32(static_cast<const int*>(at), mask(n));
  }
  static void store(void* at, W x) noexcept { _mm256_storeu_si256(static_cast<__m256i*>(at), x); }
  static void store_some(void* at, W x, std::size_t n) noexcept {
    _mm256_maskstore_epi32(static_cast<int*>(at), mask(n), x);
  }
  static void stream(void* at, W x) noexcept { _mm256_stream_si256(static_cast<__m256i*>(at), x); }
  static void fence() noexcept { _mm_sfence(); }
  // load_bytes: one byte a lane. store_bytes: the low byte of each lane, the others being zero.
  static W load_bytes(const std::uint8_t* at) noexcept {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at)));
  }
  static W load_bytes_some(const std::uint8_t* at, std::size_t n) noexcept {
    std::uint64_t raw = 0;
    std::memcpy(&raw, at, n);
    return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(raw)));
  }
  static std::uint64_t low_bytes(W x) noexcept {
    const __m128i words =
        _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    return static_cast<std::uint64_t>(_mm_cvtsi128_si64(_mm_packus_epi16(words, words)));
  }
  static void store_bytes(std::uint8_t* at, W x) noexcept {
    const std::uint64_t raw = low_bytes(x);
    std::memcpy(at, &raw, sizeof(raw));
  }
  static void store_bytes_some(std::uint8_t* at, W x, std::size_t n) noexcept {
    const std::uint64_t raw = low_bytes(x);
    std::memcpy(at, &raw, n);
  }

  static W add(W a, W b) noexcept { return _mm256_add_epi32(a, b); }
  static W sub(W a, W b) noexcept { return _mm256_sub_epi32(a, b); }
  static W min(W a, W b) noexcept { return _mm256_min_epu32(a, b); }
  static W max(W a, W b) noexcept { return _mm256_max_epu32(a, b); }
  static W bits(W a, std::uint32_t mask) noexcept { return _mm256_and_si256(a, set(mask)); }
  static W exclusive_or(W a, W b) noexcept { return _mm256_xor_si256(a, b); }
  template <int kBits>
  static W shift_right(W a) noexcept {
    return _mm256_srli_epi32(a, kBits);
  }
  static W clamp(W a, W lo, W hi) noexcept { return _mm256_min_epi32(_mm256_max_epi32(a, lo), hi); }
  // sub_where_above: a - b in lanes with a > limit, else a. REQUIRES: a and limit below 2^31.
  static W sub_where_above(W a, W limit, W b) noexcept {
    return sub(a, _mm256_and_si256(_mm256_cmpgt_epi32(a, limit), b));
  }
  static std::uint32_t any_above(W a, std::uint32_t limit) noexcept {
    const W above = _mm256_cmpeq_epi32(max(a, set(limit + 1)), a);
    return static_cast<std::uint32_t>(_mm256_movemask_epi8(above));
  }

  // ---- 64-bit lanes ----
  static W even(W a) noexcept { return a; }  // multiply reads the low halves only
  static W odd(W a) noexcept { return _mm256_srli_epi64(a, 32); }
  static W add64(W a, W b) noexcept { return _mm256_add_epi64(a, b); }
  static W multiply(W a, W b) noexcept { return _mm256_mul_epu32(a, b); }
  static W shift_left64(W a, int bits) noexcept {
    return _mm256_sll_epi64(a, _mm_cvtsi32_si128(bits));
  }
  template <Field F>
  static W fold(W x) noexcept {
    using M = Modulus<F>;
    const W low = _mm256_and_si256(x, set_pairs(M::kMask));
    const W high = _mm256_srli_epi64(x, M::kBits);
    if constexpr (F == Field::kP31) return add64(low, high);
    return add64(add64(low, high), add64(high, high));
  }
  static W widen(const std::uint32_t* at) noexcept {
    return _mm256_cvtepu32_epi64(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
  }
  static W widen(const std::uint8_t* at) noexcept { return _mm256_cvtepu8_epi64(four_bytes(at)); }
  static W widen(const std::int8_t* at) noexcept {
    return _mm256_cvtepu8_epi64(_mm_xor_si128(four_bytes(at), _mm_set1_epi8(-128)));
  }
  static __m128i four_bytes(const void* at) noexcept {
    std::int32_t raw = 0;
    std::memcpy(&raw, at, sizeof(raw));
    return _mm_cvtsi32_si128(raw);
  }
  // AVX2 has no arithmetic shift of 64 bits: lift by 2^31, take off again.
  static W even_signed(W x) noexcept {
    const W lifted = exclusive_or(x, set(0x8000'0000));
    return _mm256_sub_epi64(_mm256_and_si256(lifted, set_pairs(0xffff'ffff)),
                            set_pairs(0x8000'0000));
  }
  static W odd_signed(W x) noexcept {
    return _mm256_sub_epi64(odd(exclusive_or(x, set(0x8000'0000))), set_pairs(0x8000'0000));
  }
  // zip: the low halves of even and odd 64-bit lanes, in turn.
  static W zip(W even, W odd) noexcept { return _mm256_or_si256(even, _mm256_slli_epi64(odd, 32)); }
  static void narrow(std::uint32_t* at, W x) noexcept {
    const W even = _mm256_permutevar8x32_epi32(x, _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(at), _mm256_castsi256_si128(even));
  }
  // pair_sums: signed 32-bit lanes added in pairs into 64-bit lanes.
  static W pair_sums(W x) noexcept { return add64(even_signed(x), odd_signed(x)); }

  // ---- words of a slot: each byte loaded once, into a register the compiler cannot reload ----
  // Three bytes a word are spread to four by moving three dwords into each half, then bytes.
  static W spread(W x) noexcept {
    const W halves = _mm256_permutevar8x32_epi32(x, _mm256_setr_epi32(0, 1, 2, 2, 3, 4, 5, 5));
    return _mm256_shuffle_epi8(halves, _mm256_broadcastsi128_si256(_mm_setr_epi8(
                                           0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1)));
  }
  template <Field F>
  static W slot(const std::byte* at) noexcept {
    if constexpr (F == Field::kP31) return opaque(load(at));
    return spread(opaque(load_some(at, 6)));
  }
  template <Field F>
  static W slot_some(const std::byte* at, std::size_t n) noexcept {
    if constexpr (F == Field::kP31) return opaque(load_some(at, n));
    const auto* bytes = reinterpret_cast<const volatile std::uint8_t*>(at);
    alignas(32) std::uint8_t copy[kBytes] = {};
    for (std::size_t i = 0; i < 3 * n; ++i) copy[i] = bytes[i];
    return spread(load(copy));
  }
  static constexpr bool kQuads = false;  // not enough registers
  // halves: twelve bytes of words at the front of each half. packed: all bytes at the front.
  static W halves(W x) noexcept {
    return _mm256_shuffle_epi8(x, _mm256_broadcastsi128_si256(_mm_setr_epi8(
                                      0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1)));
  }
  template <Field F>
  static W packed(W x) noexcept {
    if constexpr (F == Field::kP31) return x;
    return rotated(halves(x), 0, 1, 2, 4, 5, 6, 3, 7);
  }
  static W rotated(W x, int a, int b, int c, int d, int e, int f, int g, int h) noexcept {
    return _mm256_permutevar8x32_epi32(x, _mm256_setr_epi32(a, b, c, d, e, f, g, h));
  }
  template <Field F>
  static void stream_words(std::byte* at, const W* words) noexcept {
    if constexpr (F == Field::kP31) {
      for (std::size_t i = 0; i < 4; ++i) stream(at + i * kBytes, words[i]);
    } else {
      // Six dwords of each register, laid end to end: 6 + 2, 4 + 4, 2 + 6.
      const W a = rotated(halves(words[0]), 0, 1, 2, 4, 5, 6, 3, 7);
      const W b = rotated(halves(words[1]), 2, 4, 5, 6, 3, 7, 0, 1);
      const W c = rotated(halves(words[2]), 5, 6, 3, 7, 0, 1, 2, 4);
      const W d = rotated(halves(words[3]), 3, 7, 0, 1, 2, 4, 5, 6);
      stream(at, _mm256_blend_epi32(a, b, 0xc0));
      stream(at + 32, _mm256_blend_epi32(b, c, 0xf0));
      stream(at + 64, _mm256_blend_epi32(c, d, 0xfc));
    }
  }

  // ---- the check of the output side ----
  using Sum = W;
  static Sum no_sum() noexcept { return zero(); }
  static void settle(Sum& /*sum*/) noexcept {}
  template <Field F>
  static W multiply_add(W sum, W x, W c) noexcept {
    return add64(sum, multiply(x, c));
  }
  // weigh: sum += column * a mod p. Columns below 2^52 (p24) or 2^59 (p31) fold below 2^32; so does
  // the product: the sum takes 2^31 of them.
  template <Field F>
  static void weigh(Sum& sum, W column, W a) noexcept {
    sum = add64(sum, fold<F>(multiply(fold<F>(column), a)));
  }
  template <Field F>
  static std::uint32_t finish(const Sum& sum) noexcept {
    alignas(32) std::uint64_t lanes[kWidth / 2];
    store(lanes, sum);
    std::uint64_t total = 0;
    for (const std::uint64_t lane : lanes) total += Modulus<F>::reduce(lane);
    return Modulus<F>::reduce(total);
  }

  // ---- rounding ----
  static W times(W y, W multiplier) noexcept {
    return _mm256_castps_si256(
        _mm256_mul_ps(_mm256_cvtepi32_ps(y), _mm256_castsi256_ps(multiplier)));
  }
  static W round(W v, W low, W high) noexcept {
    const __m256 held = _mm256_min_ps(
        _mm256_max_ps(_mm256_castsi256_ps(v), _mm256_castsi256_ps(low)), _mm256_castsi256_ps(high));
    return _mm256_cvtps_epi32(held);
  }

  // look_up tries each of the sixteen pieces of the table; codes of other pieces have bit 7 set
  // after the saturating addition, which the shuffle turns into 0.
  static W look_up(const std::uint8_t* table, W codes) noexcept {
    W out = zero();
    for (std::size_t piece = 0; piece < 16; ++piece) {
      const W index =
          _mm256_adds_epu8(_mm256_sub_epi8(codes, _mm256_set1_epi8(static_cast<char>(16 * piece))),
                           _mm256_set1_epi8(0x70));
      const W entries = _mm256_broadcastsi128_si256(
          _mm_loadu_si128(reinterpret_cast<const __m128i*>(table + 16 * piece)));
      out = _mm256_or_si256(out, _mm256_shuffle_epi8(entries, index));
    }
    return out;
  }
  static void apply_table(const std::uint8_t* table, std::uint8_t* codes, std::size_t n) noexcept {
    std::size_t i = 0;
    for (; i + kBytes <= n; i += kBytes) store(codes + i, look_up(table, load(codes + i)));
    if (i < n) {
      alignas(32) std::uint8_t tail[kBytes] = {};
      std::memcpy(tail, codes + i, n - i);
      store(tail, look_up(table, load(tail)));
      std::memcpy(codes + i, tail, n - i);
    }
  }

  // ---- the check of the input side: 16-bit limbs for vpmaddwd ----
  // p24: 12 bits, digits in -2057..2048: 2 * 255 * 2057 * 2,000 < 2^31. p31: 11 bits, smaller.
  struct Check {
    using Limb = std::int16_t;
    template <Field F>
    static constexpr std::size_t kLimbs = F == Field::kP24 ? 2 : 3;
    template <Field F>
    static constexpr unsigned kShift = F == Field::kP24 ? 12 : 11;
    static constexpr std::size_t kChunk = 16;
    static constexpr std::size_t kSteps = 500;  // four dots a block
    static constexpr std::size_t kGroup = 4;
    static W codes(const std::uint8_t* at) noexcept {
      return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
    }
    static W dot(W sum, W codes, W limbs) noexcept {
      return _mm256_add_epi32(sum, _mm256_madd_epi16(codes, limbs));
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

bool supported(const base::CpuFeatures& cpu) noexcept { return cpu.avx2 && cpu.aes; }

}  // namespace

constexpr Kernels kAvx2Kernels = kernels_over<Avx2>("avx2", supported, pad_candidates<Avx2, AesNi>);

}  // namespace slalom::field
SLALOM_TARGET_END
