// SPDX-License-Identifier: Apache-2.0
// Never linked: five functions that leak on purpose and two that do not, for constant_time_asm.py.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "base/target.h"

SLALOM_TARGET_BEGIN(SLALOM_ISA_AVX512)
extern "C" {

bool leak_branch(const std::uint32_t* words, std::uint32_t* out) noexcept;
std::size_t leak_early_exit(const std::uint32_t* words, std::size_t n) noexcept;
void leak_gather(const std::uint32_t* words, const int* table, int* out) noexcept;
std::uint8_t leak_index(const std::uint32_t* words, const std::uint8_t* table) noexcept;
std::uint64_t leak_divide(const std::uint64_t* words, std::uint64_t by) noexcept;
std::uint32_t keep_sum(const std::uint32_t* words, std::size_t n) noexcept;
std::uint32_t keep_mask(const std::uint32_t* words, std::uint32_t limit) noexcept;

bool leak_branch(const std::uint32_t* words, std::uint32_t* out) noexcept {
  const __m512i v = _mm512_loadu_si512(words);
  if (_mm512_cmpgt_epu32_mask(v, _mm512_set1_epi32(77)) != 0) {
    _mm512_storeu_si512(out, _mm512_mullo_epi32(v, v));
    return true;
  }
  return false;
}

std::size_t leak_early_exit(const std::uint32_t* words, std::size_t n) noexcept {
  for (std::size_t i = 0; i < n; i += 16) {
    const __m512i v = _mm512_loadu_si512(words + i);
    if (_mm512_test_epi32_mask(v, v) == 0xffff) return i;
  }
  return n;
}

void leak_gather(const std::uint32_t* words, const int* table, int* out) noexcept {
  _mm512_storeu_si512(out, _mm512_i32gather_epi32(_mm512_loadu_si512(words), table, 4));
}

std::uint8_t leak_index(const std::uint32_t* words, const std::uint8_t* table) noexcept {
  const __m512i v = _mm512_permutexvar_epi32(_mm512_loadu_si512(words), _mm512_loadu_si512(words));
  return table[static_cast<std::uint8_t>(_mm_cvtsi128_si32(_mm512_castsi512_si128(v)))];
}

std::uint64_t leak_divide(const std::uint64_t* words, std::uint64_t by) noexcept {
  const __m512i v = _mm512_permutexvar_epi64(_mm512_loadu_si512(words), _mm512_loadu_si512(words));
  return static_cast<std::uint64_t>(_mm_cvtsi128_si64(_mm512_castsi512_si128(v))) / by;
}

std::uint32_t keep_sum(const std::uint32_t* words, std::size_t n) noexcept {
  __m512i sum = _mm512_setzero_si512();
  for (std::size_t i = 0; i < n; i += 16) {
    sum = _mm512_add_epi32(sum, _mm512_loadu_si512(words + i));
  }
  return static_cast<std::uint32_t>(_mm_cvtsi128_si32(_mm512_castsi512_si128(sum)));
}

std::uint32_t keep_mask(const std::uint32_t* words, std::uint32_t limit) noexcept {
  const __m512i v = _mm512_loadu_si512(words);
  return _mm512_cmpgt_epu32_mask(v, _mm512_set1_epi32(static_cast<int>(limit)));
}

}  // extern "C"
SLALOM_TARGET_END
