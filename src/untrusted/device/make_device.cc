// SPDX-License-Identifier: Apache-2.0
#include "device/make_device.h"

#include <charconv>
#include <optional>
#include <utility>

#include "base/cpu.h"
#include "device/cpu/cpu_device.h"
#include "device/gpu/cuda_accelerator.h"
#include "device/gpu/gpu_device.h"
#include "device/remote/remote_device.h"

namespace slalom::device {
namespace {

constexpr std::string_view kCuda = "cuda:";
constexpr std::string_view kTcp = "tcp:";

// gpu_index reads "cuda" and "cuda:N".
std::optional<int> gpu_index(std::string_view name) {
  if (name == "cuda") return 0;
  if (!name.starts_with(kCuda)) return std::nullopt;
  name.remove_prefix(kCuda.size());
  int index = 0;
  const auto read = std::from_chars(name.data(), name.data() + name.size(), index);
  if (read.ec != std::errc{} || read.ptr != name.data() + name.size() || index < 0 || index > 999) {
    return std::nullopt;
  }
  return index;
}

}  // namespace

Result<std::unique_ptr<Device>> make_device(std::string_view name, std::size_t threads,
                                            std::size_t streams) {
  std::unique_ptr<Device> out;
  if (name == "cpu") {
    out = std::make_unique<CpuDevice>(
        CpuDeviceOptions{.cpu = base::detect_cpu(), .threads = threads});
    return out;
  }
  if (name.starts_with(kTcp)) {
    return make_remote_device(name.substr(kTcp.size()), {.streams = streams});
  }
  const auto index = gpu_index(name);
  if (!index) {
    return Error{Errc::kInvalidArgument, "a worker computes with cpu, cuda:N or tcp:HOST:PORT"};
  }
  auto gpu = gpu::make_cuda_accelerator(*index);
  if (!gpu) return gpu.error();
  out = std::make_unique<GpuDevice>(std::move(*gpu), GpuDeviceOptions{});
  return out;
}

}  // namespace slalom::device
