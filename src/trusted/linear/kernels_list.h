// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "linear/kernels.h"

namespace slalom::linear {

extern const Kernels kSse41Kernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
extern const Kernels kVnniKernels;

}  // namespace slalom::linear
