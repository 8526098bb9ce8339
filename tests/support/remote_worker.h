// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "base/cpu.h"
#include "device/cpu/cpu_device.h"
#include "device/remote/address.h"
#include "device/remote/listener.h"

namespace slalom::testing {

// RemoteWorker is a listener in a thread of this process, on a free port of the loopback interface.
class RemoteWorker {
 public:
  using Options = device::remote::ListenerOptions;

  // cpu computes with this machine's processor.
  static Options cpu() {
    return {.make_device = []() -> Result<std::unique_ptr<device::Device>> {
      std::unique_ptr<device::Device> out = std::make_unique<device::CpuDevice>(
          device::CpuDeviceOptions{.cpu = base::detect_cpu(), .threads = 1});
      return out;
    }};
  }
  explicit RemoteWorker(Options options = cpu(), const std::string& address = "127.0.0.1:0") {
    auto socket = device::remote::listen_at(*device::remote::parse_address(address));
    address_ = device::remote::bound_address(socket->get());
    listener_ = std::make_unique<device::remote::Listener>(std::move(*socket), std::move(options));
    thread_ = std::thread([this] { static_cast<void>(listener_->serve()); });
  }
  ~RemoteWorker() { stop(); }
  RemoteWorker(const RemoteWorker&) = delete;
  RemoteWorker& operator=(const RemoteWorker&) = delete;

  // stop ends the listener and its session, as if its process had been killed.
  void stop() {
    if (!thread_.joinable()) return;
    listener_->stop();
    thread_.join();
    listener_.reset();
  }
  [[nodiscard]] const std::string& address() const { return address_; }
  [[nodiscard]] device::remote::Listener& listener() { return *listener_; }

 private:
  std::string address_;
  std::unique_ptr<device::remote::Listener> listener_;
  std::thread thread_;
};

}  // namespace slalom::testing
