// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "untrusted/host/engine.h"
#include "untrusted/host/outcome.h"
#include "untrusted/planner/costs.h"

namespace slalom::planner {

// Wanted is what a placement is made for.
struct Wanted {
  Objective objective = Objective::kThroughput;
  std::vector<Override> overrides;
  // Other sizes of micro-batches to try once the placement is chosen, for throughput.
  std::vector<std::size_t> micro_batches;
  double seconds = 0.3;     // of each measurement, after a warm-up
  std::size_t devices = 1;  // of the engine
};

// since gives the counts and times between two looks at an engine.
[[nodiscard]] runtime::Stats since(const runtime::Stats& before, runtime::Stats now);
// add joins the counts and times of two spans of one plan's work.
void add(runtime::Stats& total, const runtime::Stats& more);

// Planned is a placement with what is known of it.
struct Planned {
  runtime::Placement placement;
  std::size_t micro_batch = 0;  // that served it best; costs and samples are with that of the modes
  Costs costs;
  // Of probes(); then of the placement that was chosen, if it is none of them.
  std::vector<Sample> samples;
  std::size_t used = 0;  // of the samples: the one with this placement
};

// make_plan measures an engine's plan under the probes, chooses, runs the choice and keeps
// the best of all that was run: no network gets slower than wholly inside by more than the noise of
// a measurement. `codes` are images to measure with (one at least). say, if given, is told what is
// being done. The engine ends up in the modes that it is given, with the placement and the
// micro-batch. With pads, some are made for each measurement, and used.
[[nodiscard]] host::Outcome<Planned> make_plan(host::Engine& engine, const host::Modes& modes,
                                               const Wanted& wanted,
                                               const std::vector<std::vector<std::uint8_t>>& codes,
                                               const std::function<void(const std::string&)>& say);

}  // namespace slalom::planner
