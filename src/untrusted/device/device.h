// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

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

// Device computes linear layers, exactly, and nothing else. A new kind of device needs these two
// calls. Thread safety: one call at a time.
class Device {
 public:
  virtual ~Device() = default;

  // load prepares every Linear of the plan that has a field. max_batch bounds Job::batch.
  [[nodiscard]] virtual Status load(std::shared_ptr<const model::Plan> plan,
                                    std::size_t max_batch) = 0;
  // run computes one layer: packed words of job.field, image after image, channels last.
  [[nodiscard]] virtual Status run(const Job& job) = 0;
};

}  // namespace slalom::device
