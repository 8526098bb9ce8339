// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cli/inputs.h"
#include "cli/modes.h"
#include "untrusted/host/engine.h"
#include "untrusted/planner/planner.h"

// A network that runs: the engine behind `run`, `eval` and `bench`, fed from an InputSet.

namespace slalom::cli {

// Answer is what came of one image.
struct Answer {
  std::optional<Error> error;  // nothing was released
  // One entry for each output of the plan, widened; empty if there is an error.
  std::vector<std::vector<std::int32_t>> outputs;
};

// Session owns an engine and the temporary file of its pads.
class Session {
 public:
  // Starts the processes and loads the plan. Where the placement is to be planned and none is
  // remembered, that is done first, unless `unplaced`: then all layers are inside. Throws Stop.
  Session(const std::string& plan_file, const ModeOptions& options, bool unplaced = false);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  [[nodiscard]] const model::Plan& plan() const { return *engine_->plan(); }
  // micro_batch is how many images share a request now.
  [[nodiscard]] std::size_t micro_batch() const { return micro_batch_; }
  // planned says that a placement was measured and chosen in these processes.
  [[nodiscard]] bool planned() const { return planned_; }
  // plan_now measures and chooses a placement, whatever is remembered (placement.h).
  planner::Planned plan_now();
  [[nodiscard]] host::Engine& engine() { return *engine_; }

  // make_pads fills the stock before the first image if the mode has pads: as many as asked for, or
  // one for each of `images`. Says on stderr how many bytes they take; draws a progress bar.
  // Returns the seconds it took.
  double make_pads(std::uint64_t images);

  // run streams the images through the engine; `answer` is called for each, in order. If an input
  // turns out to be bad the images before it are finished and then Stop is thrown. A failure of the
  // engine itself is returned: answers that were given before stand.
  [[nodiscard]] host::Done run(
      const InputSet& inputs,
      const std::function<void(std::uint64_t image, Answer answer)>& answer);

  // run_codes is run for inputs that are codes already: `count` of them, going round in `images`,
  // which has one at least.
  [[nodiscard]] host::Done run_codes(
      std::span<const std::vector<std::uint8_t>> images, std::uint64_t count,
      const std::function<void(std::uint64_t image, Answer answer)>& answer);

  // reconfigure changes the mode; see host::Engine::reconfigure.
  void reconfigure(const ModeOptions& options);

 private:
  host::EngineOptions prepared(const std::string& plan_file);
  void report_dead_stock();
  // place sets the placement of `modes` if it is known without measuring; false if it is not.
  bool place(const model::Plan& plan, const model::Digest& digest, host::Modes& modes);

  ModeOptions options_;
  bool planned_ = false;
  std::size_t micro_batch_ = 0;
  std::string pad_folder_;  // temporary, removed at the end; empty if none was made
  std::unique_ptr<host::Engine> engine_;
};

// random_images are what speeds are measured with, for run_codes: too many for any cache to hold,
// and their making does not count.
[[nodiscard]] std::vector<std::vector<std::uint8_t>> random_images(const model::Plan& plan);

// status_of is the exit status of a run: 0, or that of the worst thing that happened (3 rejected
// before 4 unavailable). `rejected` and `failed` count images.
struct Tally {
  std::uint64_t done = 0;
  std::uint64_t rejected = 0;
  std::uint64_t failed = 0;
  std::optional<Error> first;
  void count(const Answer& answer);
};

// finish throws Stop if anything was rejected or failed, in one sentence; REQUIRES: all answers in.
void finish(const Tally& tally, const host::Done& done);

}  // namespace slalom::cli
