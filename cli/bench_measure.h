// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/modes.h"
#include "model/plan.h"
#include "runtime/executor.h"

// What `slalom bench` measures: every mode in every round, round after round, so that whatever else
// the machine does falls on all of them alike; then one image at a time.

namespace slalom::cli {

struct BenchOptions {
  std::string what;
  double seconds = 1;          // of each measurement, after a warm-up
  std::size_t repeat = 5;      // rounds
  double latency_seconds = 1;  // for one image at a time; 0: not measured
  double link_gbs = 0;         // what the link can carry each way; 0: not known
  std::string filter;
  bool json = false;
  ModeOptions mode;  // device, threads and sizes; integrity and privacy are what is compared
};

// BenchSample is one timed run of a mode, with what it counted.
struct BenchSample {
  runtime::Stats stats;
  double wall_s = 0;
  double pads_s = 0;  // before it

  [[nodiscard]] double images() const { return static_cast<double>(stats.images); }
  [[nodiscard]] double rate() const { return images() / wall_s; }
  [[nodiscard]] double amortised() const { return images() / (wall_s + pads_s); }
};

// LayerTraffic is what one layer outside sends and receives for an image, by the plan.
struct LayerTraffic {
  std::uint32_t node = 0;
  std::string name;
  std::uint64_t out = 0, in = 0;  // bytes
};

// BenchLatency is one image at a time: micro-batch 1, one in flight, each a run of its own.
struct BenchLatency {
  std::vector<double> ms;  // sorted
  std::size_t layers_outside = 0;
  // percentile is the smallest time that so many percent of all do not exceed. REQUIRES: some.
  [[nodiscard]] double percentile(double percent) const;
};

// BenchRow is one measured mode.
struct BenchRow {
  std::string name;
  std::vector<BenchSample> samples;  // one a round
  runtime::Stats total;              // of all rounds
  std::vector<LayerTraffic> link;
  std::size_t micro_batch = 0;  // that the rounds ran with
  std::optional<BenchLatency> latency;
  // The most memory of the trusted process, from its start to the end of the mode's first
  // measurement; nothing where it cannot be seen, and why.
  std::optional<std::uint64_t> peak_bytes;
  std::string no_peak;
};

inline constexpr const char* kFloatMode = "float32 baseline";
inline constexpr const char* kInsideMode = "trusted only, int8";

// Spread is the median of some values, with the smallest and the largest.
struct Spread {
  double median = 0, min = 0, max = 0;
};
// REQUIRES: values.
[[nodiscard]] Spread spread_of(std::vector<double> values);

// layers_outside counts the layers with device time.
[[nodiscard]] std::size_t layers_outside(const runtime::Stats& stats);

// traffic_of says what each layer that was outside moves; `blinded` as with Privacy::kPads. A
// tensor that several layers read is sent once and counted for the first.
[[nodiscard]] std::vector<LayerTraffic> traffic_of(const model::Plan& plan,
                                                   const runtime::Stats& stats, bool blinded);

// measure_modes runs all modes that options.filter leaves. Throws Stop: a mode cannot run, a check
// failed, no mode is left.
[[nodiscard]] std::vector<BenchRow> measure_modes(const BenchOptions& options);

}  // namespace slalom::cli
