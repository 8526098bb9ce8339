// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "field/kernels.h"

// The implementations, each in its own file; kernels.cc puts them in order.

namespace slalom::field {

extern const Kernels kPortableKernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
extern const Kernels kAvx512IfmaKernels;

}  // namespace slalom::field
