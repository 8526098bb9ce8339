// SPDX-License-Identifier: Apache-2.0
#include "device/gpu/cuda_accelerator.h"

namespace slalom::device::gpu {

Result<std::unique_ptr<Accelerator>> make_cuda_accelerator(int /*index*/) {
  return Error{Errc::kUnavailable,
               "this program was built without CUDA: install the CUDA toolkit (nvcc), build again"};
}

}  // namespace slalom::device::gpu
