// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "channel/port.h"
#include "channel/shared.h"
#include "outside.h"
#include "slalom/result.h"

namespace slalom::channel {

// ShmPort is the trusted end of a shared-memory segment that one device worker serves. The segment
// is made here, sealed in size, used by one worker and unmapped by the destructor; it never serves
// a second one.
//
// What it believes of the worker: nothing. An answer is taken only when the worker's head lies
// within the number of unanswered requests, and the copied-in descriptor names the oldest of them,
// has a known status and the exact output size. Everything else closes the port with kRejected. The
// worker's mark that it has stopped closes it with kUnavailable; a worker that says nothing at all
// is the caller's time-out.
class ShmPort final : public Port {
 public:
  struct Sizes {
    std::size_t data_bytes = 0;  // of all slots together
    std::uint32_t capacity =
        256;  // requests without an answer; a power of two, at most kMaxCapacity
  };
  // create makes the segment. kInvalidArgument: sizes; kUnavailable: no memory.
  [[nodiscard]] static Result<std::unique_ptr<ShmPort>> create(const Sizes& sizes);
  ~ShmPort() override;
  ShmPort(const ShmPort&) = delete;
  ShmPort& operator=(const ShmPort&) = delete;

  // descriptor is the segment, to be passed to the worker's host.
  [[nodiscard]] int descriptor() const noexcept { return memory_.descriptor(); }

  [[nodiscard]] Result<Slot> allocate(std::size_t bytes) override;
  // kInvalidArgument: a range outside one slot; kUnavailable: `capacity` requests are unanswered.
  [[nodiscard]] Result<std::uint64_t> submit(Request request) override;
  [[nodiscard]] Result<std::optional<Completion>> poll() override;
  [[nodiscard]] Result<std::optional<Completion>> wait(std::chrono::nanoseconds time) override;
  [[nodiscard]] std::uint64_t bytes_out() const noexcept override { return bytes_out_; }
  [[nodiscard]] std::uint64_t bytes_in() const noexcept override { return bytes_in_; }

 private:
  ShmPort(outside::SharedMemory memory, const Sizes& sizes);
  Error close(Errc code, const char* message) noexcept;
  // inside_slot says whether bytes [offset, offset + bytes) of the data area lie in one slot.
  [[nodiscard]] bool inside_slot(std::uint64_t offset, std::uint64_t bytes) const noexcept;
  // next_answer takes the next descriptor off the ring, or nothing.
  [[nodiscard]] Result<std::optional<Answer>> next_answer();

  outside::SharedMemory memory_;
  SharedView view_;
  std::uint32_t capacity_;
  std::size_t data_offset_;
  std::vector<Slot> slots_;
  std::size_t allocated_ = 0;            // of the data area
  std::vector<std::uint32_t> expected_;  // output bytes of request n at n mod capacity
  std::uint64_t submitted_ = 0;          // requests announced; request n has sequence n + 1
  std::uint64_t received_ = 0;           // answers taken
  std::uint64_t bytes_out_ = 0;
  std::uint64_t bytes_in_ = 0;
  std::optional<Error> closed_;
};

}  // namespace slalom::channel
