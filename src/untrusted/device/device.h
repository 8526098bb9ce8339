// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "channel/messages.h"
#include "model/plan.h"
#include "slalom/result.h"

namespace slalom::device {

// Job is one Request with its slots resolved to memory. input and output are shared with the
// trusted process; the device may read and write them freely.
struct Job {
  std::uint32_t layer = 0;
  std::uint32_t batch = 0;
  std::uint64_t attempt = 0;
  channel::InputKind kind = channel::InputKind::kCodes;
  field::Field field = field::Field::kP24;
  std::uint8_t pad_code = 0;
  std::span<const std::byte> input;
  std::span<std::byte> output;
};

// Device computes linear layers, exactly, and nothing else. A new kind of device needs load and run
// only. Thread safety: one call at a time.
class Device {
 public:
  virtual ~Device() = default;

  // How many inputs a device keeps for requests of kind kRetained, at least.
  static constexpr std::size_t kRetainedInputs = 16;

  // load prepares every Linear of the plan that has a field. max_batch bounds Job::batch.
  [[nodiscard]] virtual Status load(std::shared_ptr<const model::Plan> plan,
                                    std::size_t max_batch) = 0;
  // run computes one layer: packed words of job.field, image after image, channels last.
  [[nodiscard]] virtual Status run(const Job& job) = 0;

  // A device that can work on several jobs at once has a larger depth and these calls of its own.
  // start begins a job and may return before it is done; its slots stay as they are until then.
  // finish waits for the oldest job that was started and gives its outcome; ready says that finish
  // would not wait. At most depth() jobs are started and not finished.
  [[nodiscard]] virtual std::size_t depth() const { return 1; }
  [[nodiscard]] virtual Status start(const Job& job) {
    outcome_ = run(job);
    return {};
  }
  [[nodiscard]] virtual bool ready() { return true; }
  [[nodiscard]] virtual Status finish() { return outcome_; }
  // abandon says that nobody waits for the jobs that were started: finish still has to be called
  // for each, and should return soon, with whatever outcome.
  virtual void abandon() {}

  // Span is when one part of a device worked on a job.
  struct Span {
    const char* part = nullptr;
    std::chrono::steady_clock::time_point begin, end;
  };
  // record_spans asks for spans of all later jobs, for a timeline; spans gives those of the job
  // that was finished last. A device that cannot tell gives none.
  virtual void record_spans() {}
  [[nodiscard]] virtual std::vector<Span> spans() const { return {}; }

  // attach says that slots will lie in this memory, for devices that want to prepare it; detach is
  // called before it goes.
  virtual void attach(std::span<std::byte> /*memory*/) {}
  virtual void detach(std::span<std::byte> /*memory*/) {}

 private:
  Status outcome_;
};

}  // namespace slalom::device
