// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include "importer/ops/gemm.h"

namespace slalom::importer {
namespace {

constexpr std::size_t kRows = 12;
constexpr std::size_t kLanes = 16;
constexpr std::size_t kCols = 2 * kLanes;

bool supported() noexcept { return __builtin_cpu_supports("avx512f") != 0; }

// Products and sums stay apart (no fused multiply-add): see gemm.h.
__attribute__((target("avx512f"))) void tile(std::size_t kc, const float* a, const float* b,
                                             float* c, std::size_t ldc, bool accumulate) noexcept {
  __m512 sum[kRows][2];
  for (std::size_t i = 0; i < kRows; ++i) {
    sum[i][0] = accumulate ? _mm512_loadu_ps(c + i * ldc) : _mm512_setzero_ps();
    sum[i][1] = accumulate ? _mm512_loadu_ps(c + i * ldc + kLanes) : _mm512_setzero_ps();
  }
  for (std::size_t k = 0; k < kc; ++k) {
    const __m512 b0 = _mm512_loadu_ps(b + k * kCols);
    const __m512 b1 = _mm512_loadu_ps(b + k * kCols + kLanes);
    for (std::size_t i = 0; i < kRows; ++i) {
      const __m512 ai = _mm512_set1_ps(a[k * kRows + i]);
      sum[i][0] = _mm512_add_ps(sum[i][0], _mm512_mul_ps(ai, b0));
      sum[i][1] = _mm512_add_ps(sum[i][1], _mm512_mul_ps(ai, b1));
    }
  }
  for (std::size_t i = 0; i < kRows; ++i) {
    _mm512_storeu_ps(c + i * ldc, sum[i][0]);
    _mm512_storeu_ps(c + i * ldc + kLanes, sum[i][1]);
  }
}

}  // namespace

const GemmKernel kGemmAvx512 = {
    .name = "avx512", .supported = supported, .rows = kRows, .cols = kCols, .tile = tile};

}  // namespace slalom::importer
