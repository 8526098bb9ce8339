// SPDX-License-Identifier: Apache-2.0
// The devices that every machine has: its processor, and the logic of a GPU worker over kernels
// that run in loops. Small pieces, so that layers are cut; one job at a time or several.
#include <array>

#include "base/cpu.h"
#include "device/cpu/cpu_device.h"
#include "device/gpu/gpu_device.h"
#include "support/devices.h"
#include "support/host_accelerator.h"

namespace slalom::testing {

std::vector<std::string> device_kinds() {
  return {"cpu", "gpu_lazy", "gpu_eager", "gpu_eager_uploads", "gpu_eager_kernels", "gpu_one_job"};
}

Result<std::unique_ptr<device::Device>> make_device(const std::string& kind) {
  std::unique_ptr<device::Device> out;
  if (kind == "cpu") {
    out = std::make_unique<device::CpuDevice>(
        device::CpuDeviceOptions{.cpu = base::detect_cpu(), .threads = 2});
  } else {
    // upload, compute, download
    std::array<bool, 3> eager{};
    if (kind == "gpu_eager") eager = {true, true, true};
    if (kind == "gpu_eager_uploads") eager = {true, false, false};
    if (kind == "gpu_eager_kernels") eager = {true, true, false};
    out = std::make_unique<device::GpuDevice>(
        std::make_unique<HostAccelerator>(eager),
        device::GpuDeviceOptions{.depth = kind == "gpu_one_job" ? 1U : 4U, .piece_bytes = 20'000});
  }
  return out;
}

}  // namespace slalom::testing
