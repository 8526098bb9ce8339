// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cli/modes.h"
#include "model/plan.h"
#include "untrusted/host/engine.h"
#include "untrusted/planner/planner.h"

// Where layers are computed: the options, and the placements that are remembered between runs.

namespace slalom::cli {

// add_placement_options adds --placement, --keep-inside, --send-out and --optimise.
void add_placement_options(CLI::App& app, ModeOptions& options);

// wants_plan says whether a mode's placement comes from measurements. GPUs and other machines are
// worth that; a worker on the same processors as the trusted process is there to try things out,
// and everything goes to it.
[[nodiscard]] bool wants_plan(const ModeOptions& options);

// layer_name is what users call a layer: the name of its node, or of what it makes.
[[nodiscard]] const std::string& layer_name(const model::Plan& plan, std::uint32_t node);

// overrides_of finds the layers that the user named. Throws Stop for a name that is no layer's or
// of a layer that cannot leave.
[[nodiscard]] std::vector<planner::Override> overrides_of(const model::Plan& plan,
                                                          const ModeOptions& options);

// simple_placement is what a mode without measurements has: everything outside or inside, but for
// overrides; nothing if that is the trusted process's own choice.
[[nodiscard]] std::optional<runtime::Placement> simple_placement(const model::Plan& plan,
                                                                 const ModeOptions& options);

// plan_placement measures and chooses (planner::make_plan), and remembers the choice. Says on
// stderr what it does.
[[nodiscard]] planner::Planned plan_placement(host::Engine& engine, const host::Modes& modes,
                                              const ModeOptions& options);

// Remembered is what plan_placement chose.
struct Remembered {
  runtime::Placement placement;
  std::size_t micro_batch = 0;
};
// remembered_placement is it for the same plan, mode, devices and processor.
[[nodiscard]] std::optional<Remembered> remembered_placement(const model::Plan& plan,
                                                             const model::Digest& digest,
                                                             const ModeOptions& options);

}  // namespace slalom::cli
