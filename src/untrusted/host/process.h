// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "untrusted/host/outcome.h"

namespace slalom::host {

// Memory is what a process holds, shared memory included, as proc(5) counts it.
struct Memory {
  std::uint64_t bytes = 0;       // now (VmRSS)
  std::uint64_t peak_bytes = 0;  // the most since it started (VmHWM)
  // Of bytes, without the pages of files (RssAnon, RssShmem): programs come in page by page, as
  // their parts are first executed.
  std::uint64_t data_bytes = 0;
};

// memory_of reads it for any process; nothing where /proc does not tell (no such process, or a
// /proc that is hidden from this user).
[[nodiscard]] std::optional<Memory> memory_of(pid_t process);

// Child is a running program that this process started. The destructor kills it and waits for its
// end.
class Child {
 public:
  Child() noexcept = default;
  Child(Child&& other) noexcept;
  Child& operator=(Child&& other) noexcept;
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child();

  // spawn starts a program with an empty environment, in a process group of its own (a terminal's
  // interrupt reaches only this process), with /dev/null as input and output, this process's
  // standard error, and exactly the given descriptors, as 3, 4, ... kUnavailable: it cannot be
  // started.
  [[nodiscard]] static Outcome<Child> spawn(const std::string& program,
                                            const std::vector<std::string>& arguments,
                                            std::span<const int> descriptors);

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }

  // how_it_ended waits a little for a child that is about to end, and says how: "ended with status
  // 4", "was killed by signal 9", "still runs".
  [[nodiscard]] std::string how_it_ended();

 private:
  pid_t pid_ = -1;
  int status_ = 0;
  bool reaped_ = false;
};

// program_beside returns the path of a program that lies in the folder of this process's own file.
[[nodiscard]] std::string program_beside(const std::string& name);

}  // namespace slalom::host
