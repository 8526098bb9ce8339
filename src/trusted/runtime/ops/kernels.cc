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

bool always(const base::CpuFeatures& /*cpu*/) noexcept { return true; }
bool has_avx2(const base::CpuFeatures& cpu) noexcept { return cpu.avx2; }
bool has_avx512(const base::CpuFeatures& cpu) noexcept { return cpu.avx512; }

constexpr OpKernels kAvx512Ops = avx512::kernels_of("avx512", has_avx512);
constexpr OpKernels kAvx2Ops = avx2::kernels_of("avx2", has_avx2);
constexpr OpKernels kPortableOps = portable::kernels_of("portable", always);

}  // namespace

std::span<const OpKernels* const> all_op_kernels() noexcept {
  static constexpr const OpKernels* kAll[] = {&kAvx512Ops, &kAvx2Ops, &kPortableOps};
  return kAll;
}

const OpKernels& choose_op_kernels(const base::CpuFeatures& cpu) noexcept {
  for (const OpKernels* kernels : all_op_kernels()) {
    if (kernels->supported(cpu)) return *kernels;
  }
  return kPortableOps;
}

}  // namespace slalom::runtime
