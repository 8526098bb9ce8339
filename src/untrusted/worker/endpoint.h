// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "channel/messages.h"
#include "channel/shared.h"
#include "outside.h"
#include "slalom/result.h"

namespace slalom::worker {

// ShmEndpoint is the worker's end of a channel segment (docs/channel-format.md). It checks what it
// reads for its own sake: a broken trusted side can waste its time but not crash it. One thread.
class ShmEndpoint {
 public:
  // open maps a segment. kMalformed: it is none, or of another version.
  [[nodiscard]] static Result<ShmEndpoint> open(outside::Descriptor segment);
  // The destructor says to the trusted side that no more answers will come.
  ~ShmEndpoint();
  ShmEndpoint(ShmEndpoint&&) noexcept = default;
  ShmEndpoint(const ShmEndpoint&) = delete;
  ShmEndpoint& operator=(const ShmEndpoint&) = delete;

  // next returns the next request, or nothing after `time`. kUnavailable: the trusted side has
  // closed the channel; kMalformed: it broke the protocol.
  [[nodiscard]] Result<std::optional<channel::Request>> next(std::chrono::nanoseconds time);

  // input and output resolve a request's ranges; nothing if they are not inside the data area.
  [[nodiscard]] std::optional<std::span<std::byte>> slot(std::uint64_t offset,
                                                         std::uint64_t bytes) const noexcept;

  // answer announces an answer. REQUIRES: the oldest request without one.
  void answer(const channel::Answer& answer) noexcept;

  // memory is the whole mapped segment.
  [[nodiscard]] std::span<std::byte> memory() const noexcept { return memory_.bytes(); }

  // view is the whole segment's header and rings: for test doubles that break the rules.
  [[nodiscard]] const channel::SharedView& view() const noexcept { return view_; }
  [[nodiscard]] std::uint32_t capacity() const noexcept { return capacity_; }

 private:
  ShmEndpoint(outside::SharedMemory memory, std::uint32_t capacity, std::span<std::byte> data);

  outside::SharedMemory memory_;
  channel::SharedView view_;
  std::uint32_t capacity_;
  std::span<std::byte> data_;
  std::uint64_t taken_ = 0;
  std::uint64_t answered_ = 0;
};

// mark_stopped writes the worker's mark that no more answers will come into a segment: the host
// does this for a worker that died, so that the trusted side need not wait for its time-out.
void mark_stopped(std::span<std::byte> segment) noexcept;

}  // namespace slalom::worker
