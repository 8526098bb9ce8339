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

SLALOM_TARGET_BEGIN(SLALOM_ISA_AVX512)
namespace {

#include "linear/vector512.inc"

// vpmaddwd.
struct Isa : Vector512 {
  static constexpr Format kFormat = Format::kWords;
  static constexpr int kVectorWeights = kLanes * 2;

  static Vec load_weights(const std::int8_t* p) noexcept {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Vec dot_words(Vec sum, Vec a, Vec w) noexcept {
    return _mm512_add_epi32(sum, _mm512_madd_epi16(a, w));
  }
  static Vec dot(Vec sum, Vec a, Vec w) noexcept { return dot_words(sum, a, w); }
};

#include "linear/gemm_body.inc"
#include "linear/kernels_body.inc"

}  // namespace
SLALOM_TARGET_END

namespace {
bool supported(const base::CpuFeatures& cpu) noexcept { return cpu.avx512; }
}  // namespace

constinit const Kernels kAvx512Kernels = kernels_of("avx512", supported);

}  // namespace slalom::linear
