// SPDX-License-Identifier: Apache-2.0
#include "runtime/ops/kernels.h"

#include <immintrin.h>

#include "base/target.h"

namespace slalom::runtime {
namespace {

namespace portable {
constexpr int kLanes = 4;
#include "runtime/ops/kernels.inc"
}  // namespace portable

SLALOM_TARGET_BEGIN(SLALOM_ISA_AVX2)
namespace avx2 {
constexpr int kLanes = 8;
#include "runtime/ops/kernels.inc"
}  // namespace avx2
SLALOM_TARGET_END

SLALOM_TARGET_BEGIN(SLALOM_ISA_AVX512)
namespace avx512 {
constexpr int kLanes = 16;
#include "runtime/ops/kernels.inc"
}  // namespace avx512
SLALOM_TARGET_END

constexpr OpKernels kAvx512Ops = avx512::kernels_of("avx512");
constexpr OpKernels kAvx2Ops = avx2::kernels_of("avx2");
constexpr OpKernels kPortableOps = portable::kernels_of("portable");

}  // namespace

const OpKernels& choose_op_kernels(const base::CpuFeatures& cpu) noexcept {
  if (cpu.avx512) return kAvx512Ops;
  return cpu.avx2 ? kAvx2Ops : kPortableOps;
}

}  // namespace slalom::runtime
