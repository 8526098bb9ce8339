// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "channel/messages.h"
#include "device/device.h"
#include "model/plan.h"
#include "slalom/result.h"

namespace slalom::worker {

// Trace keeps when the jobs of one segment came, were begun and answered, and writes them as a
// timeline: JSON of the Trace Event Format, which Perfetto (https://ui.perfetto.dev) and Chrome's
// chrome://tracing show. Times are of the machine's monotonic clock, in microseconds, so that those
// of several processes fit together. The trusted process is seen from here only: between an answer
// and the moment when the worker takes the next job of the same micro-batch it took the one and
// made the other, or had something else to do, or the job waited for the worker. One thread.
class Trace {
 public:
  using Clock = std::chrono::steady_clock;

  // Job is one request. begun: the device's start() returned, which for a device that works on one
  // job at a time is its end; answered: the answer was announced.
  struct Job {
    channel::Request request{};
    Clock::time_point received, begun, answered;
    bool done = false;  // and not failed
    std::vector<device::Device::Span> spans;
  };
  // Later jobs of a segment are only counted, so that memory stays bounded.
  static constexpr std::size_t kMostJobs = 20'000;

  // restart forgets the jobs of an earlier segment.
  void restart() noexcept;
  // add takes jobs in the order of their answers.
  void add(const Job& job);

  // Process numbers in the file.
  static constexpr int kWorker = 1;
  static constexpr int kTrusted = 2;
  static constexpr int kDevice = 3;  // where the device tells of its parts

  // text is the whole file; device and the plan's layers give names. depth: how many jobs the
  // device works on at once.
  [[nodiscard]] std::string text(const std::string& device, const model::Plan& plan,
                                 std::size_t depth) const;

  // write puts it into a file: all, or nothing. kUnavailable: that cannot be done.
  [[nodiscard]] static Status write(const std::string& path, const std::string& text);

 private:
  std::vector<Job> jobs_;
  std::uint64_t left_out_ = 0;
};

}  // namespace slalom::worker
