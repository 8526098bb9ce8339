// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "slalom/result.h"

// outside names the services that the trusted process asks of the operating system for its border:
// shared memory, waiting, the control socket and the state of the process itself. No function here
// opens a path or reads the environment. What comes back from any of them is untrusted.

namespace slalom::outside {

// Descriptor owns one file descriptor.
class Descriptor {
 public:
  Descriptor() noexcept = default;
  explicit Descriptor(int fd) noexcept : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor();

  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] bool valid() const noexcept { return fd_ >= 0; }
  void reset() noexcept { *this = Descriptor(); }
  // release gives the descriptor up to the caller.
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

// duplicate gives a second descriptor for the same file; empty if there is none to be had.
[[nodiscard]] Descriptor duplicate(int fd) noexcept;

struct Unmap {
  std::size_t bytes = 0;
  void operator()(std::byte* memory) const noexcept;
};
// SharedMemory is a range of memory that another process may map through its descriptor.
class SharedMemory {
 public:
  // create makes a zeroed memfd and seals its size for good (SHRINK, GROW, SEAL): a peer that
  // truncated it would otherwise kill this process by SIGBUS. bytes > 0.
  [[nodiscard]] static Result<SharedMemory> create(std::size_t bytes);
  // map maps the whole of a file that somebody else made. The maker may truncate it unless sealed.
  [[nodiscard]] static Result<SharedMemory> map(Descriptor file);

  [[nodiscard]] std::span<std::byte> bytes() const noexcept {
    return {memory_.get(), memory_ ? memory_.get_deleter().bytes : 0};
  }
  [[nodiscard]] int descriptor() const noexcept { return file_.get(); }

 private:
  Descriptor file_;
  std::unique_ptr<std::byte, Unmap> memory_;
};

// sleep_on sleeps until *word was seen to differ from `seen`, wake(word) was called, or the time is
// over; it may return early. Without futex across processes it sleeps for the time. The word may
// lie in shared memory: whoever else maps it decides only how long this thread sleeps, within
// `time`.
void sleep_on(const std::uint32_t& word, std::uint32_t seen,
              std::chrono::nanoseconds time) noexcept;
void wake(const std::uint32_t& word) noexcept;

// send writes all bytes to a stream socket; the descriptor, if not negative, travels with the first
// byte. receive reads exactly bytes.size() bytes; at most one descriptor that travelled with them
// is stored in *passed, and more, or any when passed is null, are closed and an error. Both block.
// kUnavailable: the peer is gone.
[[nodiscard]] Status send(int socket, std::span<const std::byte> bytes,
                          int descriptor = -1) noexcept;
[[nodiscard]] Status receive(int socket, std::span<std::byte> bytes, Descriptor* passed) noexcept;

// readable says whether a receive would not block: bytes, or the end, have come.
[[nodiscard]] bool readable(int socket) noexcept;

// hang_up ends both directions of a stream socket without closing the descriptor.
void hang_up(int socket) noexcept;

// wait_for_connection blocks until a client connects to `listener`, or until the peer of `life` (a
// stream socket, or -1) is gone: then the Descriptor is empty. A listener of -1 only waits for
// that.
[[nodiscard]] Result<Descriptor> wait_for_connection(int listener, int life) noexcept;

// harden makes this process unreadable to others of the same user (not dumpable: no ptrace, no
// /proc/PID/mem), forbids core dumps and the gain of privileges, ignores SIGPIPE and sets MXCSR to
// round to nearest even with all exceptions masked and denormals kept, for this thread and those
// that it starts. kInternal if the kernel refuses.
[[nodiscard]] Status harden() noexcept;

// ProcessState is what the kernel says about this process and machine.
struct ProcessState {
  std::uint32_t processors = 0;    // that this process may run on
  std::uint64_t lock_limit = 0;    // RLIMIT_MEMLOCK in bytes; UINT64_MAX: no limit
  std::uint64_t memory_bytes = 0;  // of the machine
  bool dumpable = true;
  bool core_dumps = true;
};
[[nodiscard]] ProcessState process_state() noexcept;

}  // namespace slalom::outside
