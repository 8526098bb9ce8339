// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include <cstring>

#include "base/target.h"
#include "field/arithmetic.h"
#include "field/kernels.h"
#include "field/kernels_list.h"

SLALOM_TARGET_BEGIN(SLALOM_ISA_AVX512 "," SLALOM_ISA_AES)
namespace slalom::field {
namespace {

#include "field/vector_avx512.h"
//
#include "field/vector_consume.h"
#include "field/vector_loops.h"
//
#include "field/vector_check.h"
//
#include "field/vector_aes.h"
#include "field/vector_table.h"

bool supported(const base::CpuFeatures& cpu) noexcept { return cpu.avx512 && cpu.aes; }

}  // namespace

constexpr Kernels kAvx512Kernels =
    kernels_over<Avx512>("avx512", supported, pad_candidates<Avx512, AesNi>);

}  // namespace slalom::field
SLALOM_TARGET_END
