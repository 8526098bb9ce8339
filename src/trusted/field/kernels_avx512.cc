// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include <cstring>

#include "base/round_up.h"
#include "base/secret.h"
#include "base/target.h"
#include "field/arithmetic.h"
#include "field/kernels.h"

SLALOM_TARGET_BEGIN(SLALOM_ISA_AVX512 "," SLALOM_ISA_AES)
namespace slalom::field {
namespace {

constexpr std::size_t kBytes = 64;

#include "field/vector.h"
//
#include "field/vector_avx512.h"

inline Words permute(Words x, Words index) noexcept {
  return Words(_mm512_permutexvar_epi32(__m512i(index), __m512i(x)));
}
inline Words shuffle(Words x, Words index) noexcept {
  return Words(_mm512_shuffle_epi8(__m512i(x), __m512i(index)));
}
inline Words repeat(const void* at) noexcept {
  return Words(_mm512_broadcast_i32x4(_mm_loadu_si128(static_cast<const __m128i*>(at))));
}
inline Words add_saturated(Words a, Words b) noexcept {
  return Words(_mm512_adds_epu8(__m512i(a), __m512i(b)));
}
inline Words code_lanes(const std::uint8_t* at) noexcept {
  return Words(_mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at))));
}
inline Words multiply_codes(Words sum, Words codes, Words limbs) noexcept {
  return sum + Words(_mm512_madd_epi16(__m512i(codes), __m512i(limbs)));
}

#include "field/vector_plain.h"

// Twelve dwords of each register, laid end to end: 12 + 4, 8 + 8, 4 + 12.
inline void stream_packed(std::byte* at, const Words* words) noexcept {
  static constexpr std::uint32_t kIndex[3][16] = {
      {0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18, 20},
      {5, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18, 20, 21, 22, 24, 25},
      {10, 12, 13, 14, 16, 17, 18, 20, 21, 22, 24, 25, 26, 28, 29, 30}};
  for (std::size_t i = 0; i < 3; ++i) {
    const auto a = __m512i(packed_each(words[i]));
    const auto b = __m512i(packed_each(words[i + 1]));
    stream(at + i * kBytes, Words(_mm512_permutex2var_epi32(a, __m512i(load(kIndex[i])), b)));
  }
}

#include "field/vector_table.h"

bool supported(const base::CpuFeatures& cpu) noexcept { return cpu.avx512 && cpu.aes; }

}  // namespace

constexpr Kernels kAvx512Kernels = kernels_of("avx512", supported);

}  // namespace slalom::field
SLALOM_TARGET_END
