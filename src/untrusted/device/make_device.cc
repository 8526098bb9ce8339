// SPDX-License-Identifier: Apache-2.0
#include "device/make_device.h"

#include <charconv>
#include <utility>

#include "base/cpu.h"
#include "device/cpu/cpu_device.h"
#include "device/gpu/cuda_accelerator.h"
#include "device/gpu/gpu_device.h"

namespace slalom::device {

Result<std::unique_ptr<Device>> make_device(std::string_view name, std::size_t threads) {
  std::unique_ptr<Device> out;
  if (name == "cpu") {
    out = std::make_unique<CpuDevice>(
        CpuDeviceOptions{.cpu = base::detect_cpu(), .threads = threads});
    return out;
  }
  constexpr std::string_view kCuda = "cuda:";
  int index = 0;
  if (name != "cuda") {
    const char* const end = name.data() + name.size();
    const auto read =
        std::from_chars(name.data() + std::min(kCuda.size(), name.size()), end, index);
    if (!name.starts_with(kCuda) || read.ec != std::errc{} || read.ptr != end) {
      return Error{Errc::kInvalidArgument, "a worker computes with cpu or cuda:N"};
    }
  }
  auto gpu = gpu::make_cuda_accelerator(index);
  if (!gpu) return gpu.error();
  out = std::make_unique<GpuDevice>(std::move(*gpu), GpuDeviceOptions{});
  return out;
}

}  // namespace slalom::device
