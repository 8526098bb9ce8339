// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "model/plan.h"
#include "outside.h"
#include "untrusted/host/control_client.h"
#include "untrusted/host/outcome.h"
#include "untrusted/host/process.h"

namespace slalom::host {

// is_device says whether `spec` names a device: "cpu", "cuda:N" (NVIDIA GPU N of this machine;
// "cuda" is the first), "unix:PATH", or "tcp:HOST:PORT" (a worker on another machine).
[[nodiscard]] bool is_device(std::string_view spec);
// computes_here says that a device is a processor or GPU of this machine, not a way to a worker.
[[nodiscard]] bool computes_here(std::string_view spec);

// DeviceWorker is one device as the host knows it: a worker process that this host started (for a
// device on another machine, one that passes jobs on), or one that listens at a Unix socket.
class DeviceWorker {
 public:
  struct Setup {
    std::string spec;  // is_device(spec)
    std::string program;
    std::string plan_file;
    model::Digest digest{};
    std::size_t threads = 0;    // 0: the worker's default
    std::size_t max_batch = 1;  // that will be asked for
    std::size_t streams = 0;    // TCP connections to another machine; 0: the worker's default
    std::string trace;          // file that a worker of this host leaves (worker/trace.h); or none
  };
  explicit DeviceWorker(Setup setup) : setup_(std::move(setup)) {}
  // A worker that traces gets a moment to write its file.
  ~DeviceWorker();
  DeviceWorker(DeviceWorker&&) noexcept = default;
  DeviceWorker& operator=(DeviceWorker&&) = delete;
  DeviceWorker(const DeviceWorker&) = delete;
  DeviceWorker& operator=(const DeviceWorker&) = delete;

  // begin starts or connects to the worker, which then loads in its own time. If it already runs
  // and is fit for max_batch, nothing happens.
  [[nodiscard]] Done begin(std::size_t max_batch);

  // ready waits until the worker has loaded its plan. kMalformed: it loaded another one;
  // kInvalidArgument: its largest micro-batch is too small; else what it failed with.
  [[nodiscard]] Done ready();

  // serve hands a fresh segment to the worker, which from then on serves no other.
  [[nodiscard]] Done serve(outside::Descriptor segment);

  // watched is for a run: if the worker goes, its segment is marked, so that the trusted process
  // need not wait for its time-out.
  [[nodiscard]] Watched watched();

  // memory of a worker process that this host started.
  [[nodiscard]] std::optional<Memory> memory() const {
    return child_.pid() > 0 ? memory_of(child_.pid()) : std::nullopt;
  }

  // obituary says what happened to a worker that is gone; empty while it lives.
  [[nodiscard]] std::string obituary();

 private:
  [[nodiscard]] bool spawned() const { return !setup_.spec.starts_with("unix:"); }
  [[nodiscard]] Done spawn();

  Setup setup_;
  Child child_;
  outside::Descriptor socket_;
  bool greeted_ = false;
  std::shared_ptr<outside::SharedMemory> segment_;
};

}  // namespace slalom::host
