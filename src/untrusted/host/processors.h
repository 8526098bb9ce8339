// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sched.h>

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace slalom::host {

// Shares says who works on which of the processors that this process may use.
struct Shares {
  std::size_t trusted_threads = 1;
  bool bind_trusted = false;         // each to one of them (base/thread_pool.h)
  std::optional<cpu_set_t> workers;  // what workers may use; nothing: all
};

// share_processors gives the trusted process `trusted_threads` of them (0: all that the workers do
// not need) and the workers of this machine what is left. A worker for a GPU or for another machine
// needs one processor; a CPU worker needs `device_threads` (0: all). Where they do not fit beside
// each other, CPU workers share processors with trusted threads, which are then free to move.
// devices: as in EngineOptions.
[[nodiscard]] Shares share_processors(std::size_t trusted_threads, std::size_t device_threads,
                                      const std::vector<std::string>& devices);

// OnProcessors restricts the calling thread, and what it starts, for as long as it lives.
class OnProcessors {
 public:
  explicit OnProcessors(const std::optional<cpu_set_t>& set);
  ~OnProcessors();
  OnProcessors(const OnProcessors&) = delete;
  OnProcessors& operator=(const OnProcessors&) = delete;

 private:
  std::optional<cpu_set_t> before_;
};

}  // namespace slalom::host
