// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "cli/modes.h"

namespace slalom::cli {

// Timeline makes the file of `slalom run --trace`: what the workers of this command recorded
// (worker/trace.h), and when the answers came here. All of it is measured; times are in
// microseconds since the first job.
class Timeline {
 public:
  // Throws Stop(kInvalidArgument) if no device of the mode is one whose worker this command starts.
  Timeline(std::string file, const ModeOptions& mode);
  ~Timeline();
  Timeline(const Timeline&) = delete;
  Timeline& operator=(const Timeline&) = delete;

  // folder is where the workers leave their files (EngineOptions::trace).
  [[nodiscard]] const std::string& folder() const { return folder_; }

  void answered(std::uint64_t image);

  // write puts everything together; REQUIRES: the workers have ended. Throws Stop.
  void write() const;

 private:
  struct Answered {
    std::uint64_t image = 0;
    std::chrono::steady_clock::time_point at;
  };
  std::string file_, folder_;
  std::vector<std::string> devices_;
  std::vector<Answered> answers_;
};

}  // namespace slalom::cli
