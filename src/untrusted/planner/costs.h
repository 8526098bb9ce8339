// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "model/plan.h"
#include "runtime/executor.h"
#include "untrusted/host/engine.h"
#include "untrusted/host/outcome.h"

// What a network's layers cost, inside and outside, measured on this machine with the pipeline
// itself. All times are for one image. Nothing here is trusted: a placement decides who computes a
// layer, never whether a device's answer is checked.

namespace slalom::planner {

// LayerCost is one layer that may leave: a Linear node that has a field.
struct LayerCost {
  std::uint32_t node = 0;
  double inside_ns = 0;   // trusted time if it is computed inside
  double outside_ns = 0;  // trusted time if a device computes it: its answer taken and checked
  // What the trusted time grows by if a later layer is outside that reads what is made of this one.
  double send_inside_ns = 0, send_outside_ns = 0;
  double device_ns = 0;  // the device's and the link's time
};

// Costs of one plan in one mode on one machine.
struct Costs {
  std::vector<LayerCost> layers;  // in the plan's order
  double fixed_ns = 0;            // trusted time of everything else
  std::size_t devices = 1;        // that share the device time
};

// Predicted is what a placement is thought to take. The trusted side and the devices work at the
// same time, so a stream of images goes at the pace of the slower one; with the few micro-batches
// in flight that fit the caches the other one shows too, the more the closer they are.
struct Predicted {
  double trusted_ns = 0;
  double device_ns = 0;

  // The cubic norm of both times: fitted to eleven measured placements of four networks, of which
  // it missed ten by at most 11% and one by 20% (docs/performance.md, section 7).
  [[nodiscard]] double bottleneck_ns() const noexcept {
    return std::cbrt(trusted_ns * trusted_ns * trusted_ns + device_ns * device_ns * device_ns);
  }
  [[nodiscard]] double latency_ns() const noexcept { return trusted_ns + device_ns; }
};

// predict adds up the costs under a placement. REQUIRES: costs of this plan.
[[nodiscard]] Predicted predict(const model::Plan& plan, const Costs& costs,
                                const runtime::Placement& placement);

enum class Objective : std::uint8_t { kThroughput, kLatency };

// Override keeps a layer where a user wants it.
struct Override {
  std::uint32_t node = 0;
  bool remote = false;
};

// choose finds the placement with the least predicted bottleneck (or latency): a descent from the
// best of three starts that moves one layer, or all layers that read one tensor, at a time.
// Overrides stand. REQUIRES: costs of this plan, overrides of layers that may leave.
[[nodiscard]] runtime::Placement choose(const model::Plan& plan, const Costs& costs,
                                        Objective objective,
                                        const std::vector<Override>& overrides);

// Sample is one placement that was run, with what each step took over `images` images.
struct Sample {
  runtime::Placement placement;
  runtime::Stats stats;
  double wall_s = 0;

  [[nodiscard]] double images() const { return static_cast<double>(stats.images); }
  [[nodiscard]] double rate() const { return wall_s > 0 ? images() / wall_s : 0; }
};

// fit derives the costs from the samples of all probes. REQUIRES: images in each.
[[nodiscard]] Costs fit(const model::Plan& plan, const std::vector<Sample>& samples,
                        std::size_t devices);

// probes are the placements that fit needs: everything outside, everything inside, and every other
// layer outside, in both ways. In a chain of layers each is then seen inside and outside, with and
// without something to send.
[[nodiscard]] std::vector<runtime::Placement> probes(const model::Plan& plan);

}  // namespace slalom::planner
