// SPDX-License-Identifier: Apache-2.0
// Row kernels for AVX2: eight elements at a time as binary32; tails by the portable loops.

#include <immintrin.h>

#include <cstring>

#include "base/target.h"
#include "runtime/ops/kernels_internal.h"

namespace slalom::runtime {
namespace {

bool has_avx2(const base::CpuFeatures& cpu) noexcept { return cpu.avx2; }

}  // namespace

SLALOM_TARGET_BEGIN(SLALOM_ISA_AVX2)
namespace {

constexpr std::size_t kLanes = 8;

struct Rounding {
  explicit Rounding(const Requantise& to) noexcept
      : zero(_mm256_set1_epi32(to.zero_point)),
        lo(_mm256_set1_epi32(to.lo)),
        hi(_mm256_set1_epi32(to.hi)),
        most(_mm256_set1_ps(kRoundLimit)),
        least(_mm256_set1_ps(-kRoundLimit)) {}
  // store writes eight codes; after the clamp every lane is 0..255, so no pack saturates.
  void store(std::uint8_t* out, __m256 v) const noexcept {
    const __m256 limited = _mm256_max_ps(_mm256_min_ps(v, most), least);
    const __m256i sum = _mm256_add_epi32(_mm256_cvtps_epi32(limited), zero);
    const __m256i q = _mm256_min_epi32(_mm256_max_epi32(sum, lo), hi);
    const __m128i words =
        _mm_packus_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out), _mm_packus_epi16(words, words));
  }
  __m256i zero, lo, hi;
  __m256 most, least;
};

__m256i centred(const std::uint8_t* a, __m256i zero) noexcept {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(a));
  return _mm256_sub_epi32(_mm256_cvtepu8_epi32(bytes), zero);
}

void add(const std::uint8_t* a, const std::uint8_t* b, std::size_t n, const AddRow& row,
         std::uint8_t* out) noexcept {
  const Rounding rounding(row.to);
  const __m256i za = _mm256_set1_epi32(row.zero_a);
  const __m256i zb = _mm256_set1_epi32(row.zero_b);
  const __m256 ma = _mm256_set1_ps(row.multiplier_a);
  const __m256 mb = _mm256_set1_ps(row.multiplier_b);
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const __m256 left = _mm256_mul_ps(_mm256_cvtepi32_ps(centred(a + i, za)), ma);
    const __m256 right = _mm256_mul_ps(_mm256_cvtepi32_ps(centred(b + i, zb)), mb);
    rounding.store(out + i, _mm256_add_ps(left, right));
  }
  portable::add(a + i, b + i, n - i, row, out + i);
}

void mul(const std::uint8_t* a, const std::uint8_t* b, std::size_t n, const MulRow& row,
         std::uint8_t* out) noexcept {
  const Rounding rounding(row.to);
  const __m256i za = _mm256_set1_epi32(row.zero_a);
  const __m256i zb = _mm256_set1_epi32(row.zero_b);
  const __m256 m = _mm256_set1_ps(row.multiplier);
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const __m256i product = _mm256_mullo_epi32(centred(a + i, za), centred(b + i, zb));
    rounding.store(out + i, _mm256_mul_ps(_mm256_cvtepi32_ps(product), m));
  }
  portable::mul(a + i, b + i, n - i, row, out + i);
}

void scale(const std::uint8_t* a, std::size_t n, const ScaleRow& row, std::uint8_t* out) noexcept {
  const Rounding rounding(row.to);
  const __m256i zero = _mm256_set1_epi32(row.zero);
  const __m256 m = _mm256_set1_ps(row.multiplier);
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    rounding.store(out + i, _mm256_mul_ps(_mm256_cvtepi32_ps(centred(a + i, zero)), m));
  }
  portable::scale(a + i, n - i, row, out + i);
}

void prelu(const std::uint8_t* a, const float* negative, std::size_t n, const PreluRow& row,
           std::uint8_t* out) noexcept {
  const Rounding rounding(row.to);
  const __m256i zero = _mm256_set1_epi32(row.zero);
  const __m256 positive = _mm256_set1_ps(row.positive);
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const __m256i v = centred(a + i, zero);
    const __m256 slope =
        _mm256_blendv_ps(positive, _mm256_loadu_ps(negative + i), _mm256_castsi256_ps(v));
    rounding.store(out + i, _mm256_mul_ps(_mm256_cvtepi32_ps(v), slope));
  }
  portable::prelu(a + i, negative + i, n - i, row, out + i);
}

Taps from_channel(Taps taps, std::size_t channel) noexcept {
  taps.first += channel;
  return taps;
}

void max_taps(const Taps& taps, std::size_t n, std::uint8_t* out) noexcept {
  std::size_t i = 0;
  for (; i + 32 <= n; i += 32) {
    __m256i most = _mm256_setzero_si256();
    for (std::size_t y = 0; y < taps.rows; ++y) {
      const std::uint8_t* tap = taps.first + y * taps.row_stride + i;
      for (std::size_t x = 0; x < taps.columns; ++x, tap += taps.column_stride) {
        most = _mm256_max_epu8(most, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(tap)));
      }
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), most);
  }
  for (; i + 8 <= n; i += 8) {
    __m128i most = _mm_setzero_si128();
    for (std::size_t y = 0; y < taps.rows; ++y) {
      const std::uint8_t* tap = taps.first + y * taps.row_stride + i;
      for (std::size_t x = 0; x < taps.columns; ++x, tap += taps.column_stride) {
        most = _mm_max_epu8(most, _mm_loadl_epi64(reinterpret_cast<const __m128i*>(tap)));
      }
    }
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out + i), most);
  }
  portable::max_taps(from_channel(taps, i), n - i, out + i);
}

void sum_taps(const Taps& taps, std::size_t n, std::int32_t* sums) noexcept {
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    __m256i sum = _mm256_setzero_si256();
    for (std::size_t y = 0; y < taps.rows; ++y) {
      const std::uint8_t* tap = taps.first + y * taps.row_stride + i;
      for (std::size_t x = 0; x < taps.columns; ++x, tap += taps.column_stride) {
        sum = _mm256_add_epi32(sum, centred(tap, _mm256_setzero_si256()));
      }
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + i), sum);
  }
  portable::sum_taps(from_channel(taps, i), n - i, sums + i);
}

void scale_sums(const std::int32_t* sums, std::size_t n, const ScaleRow& row,
                std::uint8_t* out) noexcept {
  const Rounding rounding(row.to);
  const __m256i zero = _mm256_set1_epi32(row.zero);
  const __m256 m = _mm256_set1_ps(row.multiplier);
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const __m256i v =
        _mm256_sub_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(sums + i)), zero);
    rounding.store(out + i, _mm256_mul_ps(_mm256_cvtepi32_ps(v), m));
  }
  portable::scale_sums(sums + i, n - i, row, out + i);
}

}  // namespace
SLALOM_TARGET_END

constexpr OpKernels kAvx2Ops{"avx2", has_avx2, add,      mul,       scale,
                             prelu,  max_taps, sum_taps, scale_sums};

}  // namespace slalom::runtime
