// SPDX-License-Identifier: Apache-2.0
// Row kernels for AVX-512 (F, BW, DQ, VL): sixteen elements at a time as binary32, tails by masks.

#include <immintrin.h>

#include <algorithm>

#include "base/target.h"
#include "runtime/ops/kernels_internal.h"

namespace slalom::runtime {
namespace {

bool has_avx512(const base::CpuFeatures& cpu) noexcept { return cpu.avx512; }

}  // namespace

SLALOM_TARGET_BEGIN(SLALOM_ISA_AVX512)
namespace {

constexpr std::size_t kLanes = 16;

__mmask16 first_lanes(std::size_t n) noexcept {
  return static_cast<__mmask16>(n >= kLanes ? 0xffffU : (1U << n) - 1U);
}
__mmask64 first_bytes(std::size_t n) noexcept { return n >= 64 ? ~0ULL : (1ULL << n) - 1ULL; }

struct Rounding {
  explicit Rounding(const Requantise& to) noexcept
      : zero(_mm512_set1_epi32(to.zero_point)),
        lo(_mm512_set1_epi32(to.lo)),
        hi(_mm512_set1_epi32(to.hi)),
        most(_mm512_set1_ps(kRoundLimit)),
        least(_mm512_set1_ps(-kRoundLimit)) {}
  [[nodiscard]] __m128i codes(__m512 v) const noexcept {
    const __m512 limited = _mm512_max_ps(_mm512_min_ps(v, most), least);
    const __m512i sum = _mm512_add_epi32(_mm512_cvtps_epi32(limited), zero);
    return _mm512_cvtepi32_epi8(_mm512_min_epi32(_mm512_max_epi32(sum, lo), hi));
  }
  __m512i zero, lo, hi;
  __m512 most, least;
};

__m512i centred(const std::uint8_t* a, __mmask16 k, __m512i zero) noexcept {
  return _mm512_sub_epi32(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(k, a)), zero);
}

void add(const std::uint8_t* a, const std::uint8_t* b, std::size_t n, const AddRow& row,
         std::uint8_t* out) noexcept {
  const Rounding rounding(row.to);
  const __m512i za = _mm512_set1_epi32(row.zero_a);
  const __m512i zb = _mm512_set1_epi32(row.zero_b);
  const __m512 ma = _mm512_set1_ps(row.multiplier_a);
  const __m512 mb = _mm512_set1_ps(row.multiplier_b);
  for (std::size_t i = 0; i < n; i += kLanes) {
    const __mmask16 k = first_lanes(n - i);
    const __m512 left = _mm512_mul_ps(_mm512_cvtepi32_ps(centred(a + i, k, za)), ma);
    const __m512 right = _mm512_mul_ps(_mm512_cvtepi32_ps(centred(b + i, k, zb)), mb);
    _mm_mask_storeu_epi8(out + i, k, rounding.codes(_mm512_add_ps(left, right)));
  }
}

void mul(const std::uint8_t* a, const std::uint8_t* b, std::size_t n, const MulRow& row,
         std::uint8_t* out) noexcept {
  const Rounding rounding(row.to);
  const __m512i za = _mm512_set1_epi32(row.zero_a);
  const __m512i zb = _mm512_set1_epi32(row.zero_b);
  const __m512 m = _mm512_set1_ps(row.multiplier);
  for (std::size_t i = 0; i < n; i += kLanes) {
    const __mmask16 k = first_lanes(n - i);
    const __m512i product = _mm512_mullo_epi32(centred(a + i, k, za), centred(b + i, k, zb));
    _mm_mask_storeu_epi8(out + i, k, rounding.codes(_mm512_mul_ps(_mm512_cvtepi32_ps(product), m)));
  }
}

void scale(const std::uint8_t* a, std::size_t n, const ScaleRow& row, std::uint8_t* out) noexcept {
  const Rounding rounding(row.to);
  const __m512i zero = _mm512_set1_epi32(row.zero);
  const __m512 m = _mm512_set1_ps(row.multiplier);
  for (std::size_t i = 0; i < n; i += kLanes) {
    const __mmask16 k = first_lanes(n - i);
    const __m512 v = _mm512_cvtepi32_ps(centred(a + i, k, zero));
    _mm_mask_storeu_epi8(out + i, k, rounding.codes(_mm512_mul_ps(v, m)));
  }
}

void prelu(const std::uint8_t* a, const float* negative, std::size_t n, const PreluRow& row,
           std::uint8_t* out) noexcept {
  const Rounding rounding(row.to);
  const __m512i zero = _mm512_set1_epi32(row.zero);
  const __m512 positive = _mm512_set1_ps(row.positive);
  for (std::size_t i = 0; i < n; i += kLanes) {
    const __mmask16 k = first_lanes(n - i);
    const __m512i v = centred(a + i, k, zero);
    const __m512 slope = _mm512_mask_blend_ps(_mm512_movepi32_mask(v), positive,
                                              _mm512_maskz_loadu_ps(k, negative + i));
    _mm_mask_storeu_epi8(out + i, k, rounding.codes(_mm512_mul_ps(_mm512_cvtepi32_ps(v), slope)));
  }
}

void max_taps(const Taps& taps, std::size_t n, std::uint8_t* out) noexcept {
  for (std::size_t i = 0; i < n; i += 64) {
    const __mmask64 k = first_bytes(n - i);
    __m512i most = _mm512_setzero_si512();
    for (std::size_t y = 0; y < taps.rows; ++y) {
      const std::uint8_t* tap = taps.first + y * taps.row_stride + i;
      for (std::size_t x = 0; x < taps.columns; ++x, tap += taps.column_stride) {
        most = _mm512_max_epu8(most, _mm512_maskz_loadu_epi8(k, tap));
      }
    }
    _mm512_mask_storeu_epi8(out + i, k, most);
  }
}

void sum_taps(const Taps& taps, std::size_t n, std::int32_t* sums) noexcept {
  for (std::size_t i = 0; i < n; i += kLanes) {
    const __mmask16 k = first_lanes(n - i);
    __m512i sum = _mm512_setzero_si512();
    for (std::size_t y = 0; y < taps.rows; ++y) {
      const std::uint8_t* tap = taps.first + y * taps.row_stride + i;
      for (std::size_t x = 0; x < taps.columns; ++x, tap += taps.column_stride) {
        sum = _mm512_add_epi32(sum, _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(k, tap)));
      }
    }
    _mm512_mask_storeu_epi32(sums + i, k, sum);
  }
}

void scale_sums(const std::int32_t* sums, std::size_t n, const ScaleRow& row,
                std::uint8_t* out) noexcept {
  const Rounding rounding(row.to);
  const __m512i zero = _mm512_set1_epi32(row.zero);
  const __m512 m = _mm512_set1_ps(row.multiplier);
  for (std::size_t i = 0; i < n; i += kLanes) {
    const __mmask16 k = first_lanes(n - i);
    const __m512i v = _mm512_sub_epi32(_mm512_maskz_loadu_epi32(k, sums + i), zero);
    _mm_mask_storeu_epi8(out + i, k, rounding.codes(_mm512_mul_ps(_mm512_cvtepi32_ps(v), m)));
  }
}

}  // namespace
SLALOM_TARGET_END

constexpr OpKernels kAvx512Ops{"avx512", has_avx512, add,      mul,       scale,
                               prelu,    max_taps,   sum_taps, scale_sums};

}  // namespace slalom::runtime
