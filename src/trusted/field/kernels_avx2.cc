// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include <cstring>

#include "base/round_up.h"
#include "base/secret.h"
#include "base/target.h"
#include "field/arithmetic.h"
#include "field/kernels.h"

SLALOM_TARGET_BEGIN(SLALOM_ISA_AVX2 "," SLALOM_ISA_AES)
namespace slalom::field {
namespace {

constexpr std::size_t kBytes = 32;

#include "field/vector.h"

// ---- loads and stores ----

inline __m256i mask(std::size_t n) noexcept {
  return __m256i(Ints(set(static_cast<std::uint32_t>(n))) > Ints{0, 1, 2, 3, 4, 5, 6, 7});
}
inline Words load(const void* at, std::size_t n) noexcept {
  if (n == kWidth) return load(at);
  return Words(_mm256_maskload_epi32(static_cast<const int*>(at), mask(n)));
}
inline void store(void* at, Words x, std::size_t n) noexcept {
  if (n == kWidth) return store(at, x);
  _mm256_maskstore_epi32(static_cast<int*>(at), mask(n), __m256i(x));
}
inline Words load_bytes(const std::uint8_t* at, std::size_t n) noexcept {
  std::uint64_t raw = 0;
  n == kWidth ? std::memcpy(&raw, at, kWidth) : std::memcpy(&raw, at, n);
  return Words(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(raw))));
}
inline void store_bytes(std::uint8_t* at, Words x, std::size_t n) noexcept {
  const __m128i words =
      _mm_packus_epi32(_mm256_castsi256_si128(__m256i(x)), _mm256_extracti128_si256(__m256i(x), 1));
  const long long raw = _mm_cvtsi128_si64(_mm_packus_epi16(words, words));
  n == kWidth ? std::memcpy(at, &raw, kWidth) : std::memcpy(at, &raw, n);
}
inline Words load_packed(const std::byte* at, std::size_t n) noexcept {
  if (n == kWidth) return Words(_mm256_maskload_epi32(reinterpret_cast<const int*>(at), mask(6)));
  const auto* bytes = reinterpret_cast<const volatile std::uint8_t*>(at);
  alignas(kBytes) std::uint8_t copy[kBytes] = {};
  for (std::size_t i = 0; i < 3 * n; ++i) copy[i] = bytes[i];
  return load(copy);
}
inline void stream(void* at, Words x) noexcept {
  _mm256_stream_si256(static_cast<__m256i*>(at), __m256i(x));
}

// ---- arithmetic ----

inline Pairs multiply(Pairs a, Pairs b) noexcept {
  return Pairs(_mm256_mul_epu32(__m256i(a), __m256i(b)));
}
inline Words nearest(Floats x) noexcept { return Words(_mm256_cvtps_epi32(__m256(x))); }
inline Words permute(Words x, Words index) noexcept {
  return Words(_mm256_permutevar8x32_epi32(__m256i(x), __m256i(index)));
}
inline Words shuffle(Words x, Words index) noexcept {
  return Words(_mm256_shuffle_epi8(__m256i(x), __m256i(index)));
}
inline Words repeat(const void* at) noexcept {
  return Words(_mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(at))));
}
inline Words add_saturated(Words a, Words b) noexcept {
  return Words(_mm256_adds_epu8(__m256i(a), __m256i(b)));
}
inline Words code_lanes(const std::uint8_t* at) noexcept {
  return Words(_mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at))));
}
inline Words multiply_codes(Words sum, Words codes, Words limbs) noexcept {
  return sum + Words(_mm256_madd_epi16(__m256i(codes), __m256i(limbs)));
}

#include "field/vector_plain.h"

// Six dwords of each register, laid end to end: 6 + 2, 4 + 4, 2 + 6.
inline void stream_packed(std::byte* at, const Words* words) noexcept {
  const Words a = permute(packed_each(words[0]), Words{0, 1, 2, 4, 5, 6, 3, 7});
  const Words b = permute(packed_each(words[1]), Words{2, 4, 5, 6, 3, 7, 0, 1});
  const Words c = permute(packed_each(words[2]), Words{5, 6, 3, 7, 0, 1, 2, 4});
  const Words d = permute(packed_each(words[3]), Words{3, 7, 0, 1, 2, 4, 5, 6});
  stream(at, Words(_mm256_blend_epi32(__m256i(a), __m256i(b), 0xc0)));
  stream(at + 32, Words(_mm256_blend_epi32(__m256i(b), __m256i(c), 0xf0)));
  stream(at + 64, Words(_mm256_blend_epi32(__m256i(c), __m256i(d), 0xfc)));
}

// There are not enough registers for a faster loop.
template <class T>
struct Rounding;
using Narrow = Rounding<std::uint8_t>;

#include "field/vector_table.h"

bool supported(const base::CpuFeatures& cpu) noexcept { return cpu.avx2 && cpu.aes; }

}  // namespace

constexpr Kernels kAvx2Kernels = kernels_of("avx2", supported);

}  // namespace slalom::field
SLALOM_TARGET_END
