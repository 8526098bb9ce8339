// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "base/target.h"
#include "linear/kernels.h"
#include "linear/kernels_list.h"

namespace slalom::linear {

SLALOM_TARGET_BEGIN(SLALOM_ISA_SSE41)
namespace {

// 128-bit vectors, pmaddwd.
struct Isa {
  using Vec = __m128i;
  static constexpr int kLanes = 4;
  static constexpr Format kFormat = Format::kWords;
  static constexpr int kVectors = 2;
  static constexpr int rows(int vectors) noexcept { return vectors == 1 ? 9 : 6; }
  static constexpr int kVectorWeights = kLanes * 2;

  static Vec zero() noexcept { return _mm_setzero_si128(); }
  static Vec load(const void* p) noexcept {
    return _mm_loadu_si128(static_cast<const __m128i*>(p));
  }
  static void store(void* p, Vec v) noexcept { _mm_storeu_si128(static_cast<__m128i*>(p), v); }
  static Vec add(Vec a, Vec b) noexcept { return _mm_add_epi32(a, b); }
  static Vec load_weights(const std::int8_t* p) noexcept {
    return _mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  static Vec broadcast(const std::byte* p) noexcept {
    std::int32_t v = 0;
    __builtin_memcpy(&v, p, sizeof(v));
    return _mm_set1_epi32(v);
  }
  static Vec dot_words(Vec sum, Vec a, Vec w) noexcept {
    return _mm_add_epi32(sum, _mm_madd_epi16(a, w));
  }
  static Vec dot(Vec sum, Vec a, Vec w) noexcept { return dot_words(sum, a, w); }
  static Vec interleave_low(Vec a, Vec b) noexcept { return _mm_unpacklo_epi16(a, b); }
  static Vec interleave_high(Vec a, Vec b) noexcept { return _mm_unpackhi_epi16(a, b); }
  static void store_pairs(std::int32_t* p, const std::int32_t* init, Vec low, Vec high) noexcept {
    store(p, add(load(init), low));
    store(p + kLanes, add(load(init + kLanes), high));
  }
};

#include "linear/gemm_body.inc"
#include "linear/kernels_body.inc"

}  // namespace
SLALOM_TARGET_END

namespace {
bool supported(const base::CpuFeatures& cpu) noexcept { return cpu.sse41 && cpu.ssse3; }
}  // namespace

constinit const Kernels kSse41Kernels = kernels_of("sse41", supported);

}  // namespace slalom::linear
