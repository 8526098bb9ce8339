// SPDX-License-Identifier: Apache-2.0
// The first NVIDIA GPU of this machine, with pieces of layers of the usual size and small ones.
#include "device/gpu/cuda_accelerator.h"
#include "device/gpu/gpu_device.h"
#include "support/devices.h"

namespace slalom::testing {

std::vector<std::string> device_kinds() { return {"cuda", "cuda_small_pieces"}; }

Result<std::unique_ptr<device::Device>> make_device(const std::string& kind) {
  auto gpu = device::gpu::make_cuda_accelerator(0);
  if (!gpu) return gpu.error();
  device::GpuDeviceOptions options;
  if (kind != "cuda") options.piece_bytes = 20'000;
  std::unique_ptr<device::Device> out =
      std::make_unique<device::GpuDevice>(std::move(*gpu), options);
  return out;
}

}  // namespace slalom::testing
