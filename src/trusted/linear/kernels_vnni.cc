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

SLALOM_TARGET_BEGIN(SLALOM_ISA_AVX512_VNNI)
namespace {

#include "linear/vector512.inc"

// vpdpbusd (unsigned tile bytes x signed weights, no saturation) and vpdpwssd.
struct Isa : Vector512 {
  static constexpr Format kFormat = Format::kBytes;
  static constexpr int kVectorWeights = kLanes * 4;

  static Vec load_weights(const std::int8_t* p) noexcept { return load(p); }
  static Vec dot_words(Vec sum, Vec a, Vec w) noexcept { return _mm512_dpwssd_epi32(sum, a, w); }
  static Vec dot(Vec sum, Vec a, Vec w) noexcept { return _mm512_dpbusd_epi32(sum, a, w); }
};

#include "linear/gemm_body.inc"
#include "linear/kernels_body.inc"

}  // namespace
SLALOM_TARGET_END

namespace {
bool supported(const base::CpuFeatures& cpu) noexcept { return cpu.avx512_vnni; }
}  // namespace

constinit const Kernels kVnniKernels = kernels_of("vnni", supported);

}  // namespace slalom::linear
