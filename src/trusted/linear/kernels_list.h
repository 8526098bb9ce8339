// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "linear/kernels.h"

namespace slalom::linear {

extern const Kernels kSse41Kernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
extern const Kernels kVnniKernels;

extern const FloatKernels kSse41FloatKernels;
extern const FloatKernels kAvx2FloatKernels;
extern const FloatKernels kAvx512FloatKernels;

}  // namespace slalom::linear
