// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "channel/messages.h"
#include "slalom/result.h"

namespace slalom::channel {

// Slot is a range of the segment's data area. What lies behind it belongs to the enemy: it is
// written with non-temporal stores and never read back, or read once a word by field/ kernels.
struct Slot {
  std::uint64_t offset = 0;
  std::span<std::byte> memory;
};

// Completion is an Answer that was copied in and checked: it belongs to an outstanding request and
// fills its output slot exactly.
struct Completion {
  std::uint64_t sequence = 0;
  bool done = false;            // false: the worker says that it failed
  std::uint64_t device_ns = 0;  // the worker's claim; statistics only
};

// Port is the trusted end of the connection to one device worker, whatever carries it. One thread.
// Any breach of the protocol closes the port for good: later calls return kRejected (malformed or
// unknown answers) or kUnavailable (the worker is gone).
class Port {
 public:
  virtual ~Port() = default;

  // allocate reserves a slot, 64-byte aligned, for the life of the port.
  [[nodiscard]] virtual Result<Slot> allocate(std::size_t bytes) = 0;

  // submit fences earlier non-temporal stores, then announces the request. The sequence number is
  // chosen by the port and returned.
  [[nodiscard]] virtual Result<std::uint64_t> submit(Request request) = 0;

  // poll returns the next completion, or nothing at once. wait blocks up to the given time.
  [[nodiscard]] virtual Result<std::optional<Completion>> poll() = 0;
  [[nodiscard]] virtual Result<std::optional<Completion>> wait(std::chrono::nanoseconds time) = 0;

  // bytes sent to and received from the device so far.
  [[nodiscard]] virtual std::uint64_t bytes_out() const noexcept = 0;
  [[nodiscard]] virtual std::uint64_t bytes_in() const noexcept = 0;
};

}  // namespace slalom::channel
