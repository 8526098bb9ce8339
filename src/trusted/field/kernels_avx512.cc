// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include <cstring>

#include "base/target.h"
#include "field/arithmetic.h"
#include "field/kernels.h"
#include "field/kernels_list.h"

SLALOM_TARGET_BEGIN(SLALOM_ISA_AVX512)
namespace slalom::field {
namespace {

#include "field/vector_avx512.h"
//
#include "field/vector_loops.h"
//
#include "field/vector_check.h"
#include "field/vector_table.h"

bool supported(const base::CpuFeatures& cpu) noexcept { return cpu.avx512; }

}  // namespace

constexpr Kernels kAvx512Kernels = kernels_over<Avx512>("avx512", supported, nullptr);

}  // namespace slalom::field
SLALOM_TARGET_END
