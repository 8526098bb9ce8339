// SPDX-License-Identifier: Apache-2.0
// The devices that every machine has: its processor, and the logic of a GPU worker over kernels
// that run in loops. Small pieces, so that layers are cut; one job at a time or several.
#include "base/cpu.h"
#include "device/cpu/cpu_device.h"
#include "device/gpu/gpu_device.h"
#include "support/devices.h"
#include "support/host_accelerator.h"

namespace slalom::testing {

std::vector<std::string> device_kinds() { return {"cpu", "gpu_logic", "gpu_logic_one_job"}; }

Result<std::unique_ptr<device::Device>> make_device(const std::string& kind) {
  std::unique_ptr<device::Device> out;
  if (kind == "cpu") {
    out = std::make_unique<device::CpuDevice>(
        device::CpuDeviceOptions{.cpu = base::detect_cpu(), .threads = 2});
  } else {
    out = std::make_unique<device::GpuDevice>(
        std::make_unique<HostAccelerator>(),
        device::GpuDeviceOptions{.depth = kind == "gpu_logic" ? 4U : 1U, .piece_bytes = 20'000});
  }
  return out;
}

}  // namespace slalom::testing
