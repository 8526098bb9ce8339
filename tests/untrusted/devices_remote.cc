// SPDX-License-Identifier: Apache-2.0
// Devices behind TCP on the loopback interface: one that computes at once and one that overlaps
// jobs; one stream, and more of them than a small job has parts.
#include <array>
#include <utility>

#include "base/cpu.h"
#include "device/cpu/cpu_device.h"
#include "device/gpu/gpu_device.h"
#include "device/remote/remote_device.h"
#include "support/devices.h"
#include "support/host_accelerator.h"
#include "support/remote_worker.h"

namespace slalom::testing {
namespace {

// Remote is a device together with the machine that computes for it.
class Remote final : public device::Device {
 public:
  Remote(RemoteWorker::Options options, std::size_t streams)
      : worker_(std::move(options)),
        device_(device::make_remote_device(worker_.address(), {.streams = streams}).value()) {}

  Status load(std::shared_ptr<const model::Plan> plan, std::size_t max_batch) override {
    return device_->load(std::move(plan), max_batch);
  }
  Status run(const device::Job& job) override { return device_->run(job); }
  [[nodiscard]] std::size_t depth() const override { return device_->depth(); }
  Status start(const device::Job& job) override { return device_->start(job); }
  bool ready() override { return device_->ready(); }
  Status finish() override { return device_->finish(); }

 private:
  RemoteWorker worker_;
  std::unique_ptr<device::Device> device_;
};

RemoteWorker::Options overlapping() {
  return {.make_device = []() -> Result<std::unique_ptr<device::Device>> {
    std::unique_ptr<device::Device> out = std::make_unique<device::GpuDevice>(
        std::make_unique<HostAccelerator>(std::array<bool, 3>{true, true, true}),
        device::GpuDeviceOptions{.depth = 3, .piece_bytes = 20'000});
    return out;
  }};
}

}  // namespace

std::vector<std::string> device_kinds() {
  return {"remote_one_stream", "remote", "remote_many_streams", "remote_overlapping"};
}

Result<std::unique_ptr<device::Device>> make_device(const std::string& kind) {
  const std::size_t streams =
      kind == "remote_one_stream" ? 1 : (kind == "remote_many_streams" ? 16 : 4);
  std::unique_ptr<device::Device> out = std::make_unique<Remote>(
      kind == "remote_overlapping" ? overlapping() : RemoteWorker::cpu(), streams);
  return out;
}

}  // namespace slalom::testing
