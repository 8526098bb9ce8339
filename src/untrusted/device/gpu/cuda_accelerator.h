// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "device/gpu/accelerator.h"
#include "slalom/result.h"

namespace slalom::device::gpu {

// make_cuda_accelerator opens NVIDIA GPU number `index` of this machine, in the driver's order. The
// driver and cuBLASLt are looked for now, not when the program starts. kUnavailable: no driver, an
// old one, no such GPU, no cuBLASLt, or a program that was built without CUDA; the text says which.
[[nodiscard]] Result<std::unique_ptr<Accelerator>> make_cuda_accelerator(int index);

}  // namespace slalom::device::gpu
