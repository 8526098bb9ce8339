// SPDX-License-Identifier: Apache-2.0
#include "linear/kernels.h"

#include <immintrin.h>

#include <algorithm>
#include <utility>

#include "base/target.h"
#include "linear/tile_gemm.h"

namespace slalom::linear {
namespace {

template <int Bytes>
struct VectorOf {
  using Type __attribute__((vector_size(Bytes))) = std::int32_t;
};

// SSE2, which every x86-64 has, and AVX2; 16 registers: (v)pmaddwd.
namespace sse2 {
using Vec = VectorOf<16>::Type;
constexpr int kVectors = 2;
constexpr Format kFormat = Format::kWords;
inline Vec load_weights(const std::int8_t* p) noexcept {
  const __m128i w = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return reinterpret_cast<Vec>(_mm_srai_epi16(_mm_unpacklo_epi8(w, w), 8));
}
inline Vec dot_words(Vec sum, Vec a, Vec w) noexcept {
  return sum + reinterpret_cast<Vec>(
                   _mm_madd_epi16(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(w)));
}
inline Vec dot(Vec sum, Vec a, Vec w) noexcept { return dot_words(sum, a, w); }
#include "linear/kernels.inc"
}  // namespace sse2

SLALOM_TARGET_BEGIN(SLALOM_ISA_AVX2)
namespace avx2 {
using Vec = VectorOf<32>::Type;
constexpr int kVectors = 2;
constexpr Format kFormat = Format::kWords;
inline Vec load_weights(const std::int8_t* p) noexcept {
  return reinterpret_cast<Vec>(
      _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline Vec dot_words(Vec sum, Vec a, Vec w) noexcept {
  return sum + reinterpret_cast<Vec>(
                   _mm256_madd_epi16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(w)));
}
inline Vec dot(Vec sum, Vec a, Vec w) noexcept { return dot_words(sum, a, w); }
#include "linear/kernels.inc"
}  // namespace avx2
SLALOM_TARGET_END

// AVX-512, 32 registers: vpmaddwd, with VNNI vpdpbusd (unsigned tile bytes x signed weights, no
// saturation) and vpdpwssd.
SLALOM_TARGET_BEGIN(SLALOM_ISA_AVX512)
namespace avx512 {
using Vec = VectorOf<64>::Type;
constexpr int kVectors = 4;
constexpr Format kFormat = Format::kWords;
inline Vec load_weights(const std::int8_t* p) noexcept {
  return reinterpret_cast<Vec>(
      _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
}
inline Vec dot_words(Vec sum, Vec a, Vec w) noexcept {
  return sum + reinterpret_cast<Vec>(
                   _mm512_madd_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(w)));
}
inline Vec dot(Vec sum, Vec a, Vec w) noexcept { return dot_words(sum, a, w); }
#include "linear/kernels.inc"
}  // namespace avx512
SLALOM_TARGET_END

SLALOM_TARGET_BEGIN(SLALOM_ISA_AVX512_VNNI)
namespace vnni {
using Vec = VectorOf<64>::Type;
constexpr int kVectors = 4;
constexpr Format kFormat = Format::kBytes;
inline Vec load_weights(const std::int8_t* p) noexcept {
  return reinterpret_cast<Vec>(_mm512_loadu_si512(p));
}
inline Vec dot_words(Vec sum, Vec a, Vec w) noexcept {
  return reinterpret_cast<Vec>(_mm512_dpwssd_epi32(
      reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(w)));
}
inline Vec dot(Vec sum, Vec a, Vec w) noexcept {
  return reinterpret_cast<Vec>(_mm512_dpbusd_epi32(
      reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(w)));
}
#include "linear/kernels.inc"
}  // namespace vnni
SLALOM_TARGET_END

constexpr Kernels kVnni = vnni::kernels_of("vnni");
constexpr Kernels kAmx = with_tiles<TileRegisters>(kVnni);
constexpr Kernels kAvx512 = avx512::kernels_of("avx512");
constexpr Kernels kAvx2 = avx2::kernels_of("avx2");
constexpr Kernels kSse2 = sse2::kernels_of("sse2");

}  // namespace

const Kernels& choose_kernels(const base::CpuFeatures& cpu) noexcept {
  if (cpu.amx_int8) return kAmx;
  if (cpu.avx512_vnni) return kVnni;
  if (cpu.avx512) return kAvx512;
  return cpu.avx2 ? kAvx2 : kSse2;
}

}  // namespace slalom::linear
