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

SLALOM_TARGET_BEGIN(SLALOM_ISA_AVX2)
namespace {

// 256-bit vectors, vpmaddwd.
struct Isa {
  using Vec = __m256i;
  static constexpr int kLanes = 8;
  static constexpr Format kFormat = Format::kWords;
  static constexpr int kVectors = 2;
  static constexpr int rows(int vectors) noexcept { return vectors == 1 ? 9 : 6; }
  static constexpr int kVectorWeights = kLanes * 2;

  static Vec zero() noexcept { return _mm256_setzero_si256(); }
  static Vec load(const void* p) noexcept {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
  }
  static void store(void* p, Vec v) noexcept { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }
  static Vec add(Vec a, Vec b) noexcept { return _mm256_add_epi32(a, b); }
  static Vec load_weights(const std::int8_t* p) noexcept {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Vec broadcast(const std::byte* p) noexcept {
    std::int32_t v = 0;
    __builtin_memcpy(&v, p, sizeof(v));
    return _mm256_set1_epi32(v);
  }
  static Vec dot_words(Vec sum, Vec a, Vec w) noexcept {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, w));
  }
  static Vec dot(Vec sum, Vec a, Vec w) noexcept { return dot_words(sum, a, w); }
  static Vec interleave_low(Vec a, Vec b) noexcept { return _mm256_unpacklo_epi16(a, b); }
  static Vec interleave_high(Vec a, Vec b) noexcept { return _mm256_unpackhi_epi16(a, b); }
  static void store_pairs(std::int32_t* p, const std::int32_t* init, Vec low, Vec high) noexcept {
    store(p, add(load(init), _mm256_permute2x128_si256(low, high, 0x20)));
    store(p + kLanes, add(load(init + kLanes), _mm256_permute2x128_si256(low, high, 0x31)));
  }
};

#include "linear/gemm_body.inc"
#include "linear/kernels_body.inc"

}  // namespace
SLALOM_TARGET_END

namespace {
bool supported(const base::CpuFeatures& cpu) noexcept { return cpu.avx2; }
}  // namespace

constinit const Kernels kAvx2Kernels = kernels_of("avx2", supported);

}  // namespace slalom::linear
