// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_measure.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <span>
#include <utility>
#include <variant>

#include "cli/failure.h"
#include "cli/placement.h"
#include "cli/session.h"
#include "field/prime.h"
#include "untrusted/planner/planner.h"

namespace slalom::cli {
namespace {

using Clock = std::chrono::steady_clock;
using Images = std::vector<std::vector<std::uint8_t>>;

constexpr std::size_t kLeastLatencies = 50;
constexpr double kLongestLatencies = 5;  // times BenchOptions::latency_seconds

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Case is one mode of the comparison.
struct Case {
  const char* name = "";
  bool device = false;
  model::Integrity integrity = model::Integrity::kOff;
  model::Privacy privacy = model::Privacy::kOff;
  Precision precision = Precision::kInt8;
  const char* pad_store = kPadsInMemory;
};

constexpr auto kInt8 = Precision::kInt8;
constexpr std::array kCases{
    Case{kFloatMode, false, model::Integrity::kOff, model::Privacy::kOff, Precision::kFp32},
    Case{kInsideMode, false, model::Integrity::kOff, model::Privacy::kOff, kInt8},
    Case{"unchecked", true, model::Integrity::kOff, model::Privacy::kOff, kInt8},
    Case{"verified, preprocessed", true, model::Integrity::kPreprocessed, model::Privacy::kOff,
         kInt8},
    Case{"verified, batched", true, model::Integrity::kBatched, model::Privacy::kOff, kInt8},
    Case{"verified, plain", true, model::Integrity::kPlain, model::Privacy::kOff, kInt8},
    Case{"private", true, model::Integrity::kOff, model::Privacy::kPads, kInt8},
    Case{"private + verified", true, model::Integrity::kPreprocessed, model::Privacy::kPads, kInt8},
    Case{"private + verified, sealed pads", true, model::Integrity::kPreprocessed,
         model::Privacy::kPads, kInt8, kPadsInTemporary},
};

// wanted says whether one of the names that --only gives, with "|" between, is part of this one.
bool wanted(const std::string& filter, const std::string& name) {
  if (filter.empty()) return true;
  for (std::size_t at = 0; at <= filter.size();) {
    const std::size_t end = std::min(filter.find('|', at), filter.size());
    if (end > at && name.find(filter.substr(at, end - at)) != std::string::npos) return true;
    at = end + 1;
  }
  return false;
}

// Bench runs the cases. Modes with a device share its worker, since one that listens serves one
// host at a time; the two baselines stay beside it and sleep while they are not measured.
class Bench {
 public:
  explicit Bench(const BenchOptions& options) : options_(options) {}

  std::vector<BenchRow> run() {
    for (std::size_t round = 0; round < options_.repeat; ++round) {
      for (const Case& c : kCases) {
        if (!wanted(options_.filter, c.name)) continue;
        fmt::print(stderr, "round {} of {}: {} ...\n", round + 1, options_.repeat, c.name);
        measure(c, round == 0);
      }
    }
    if (rows_.empty()) {
      throw Stop(Errc::kInvalidArgument,
                 fmt::format("no mode has '{}' in its name; leave out --only", options_.filter));
    }
    for (const Case& c : kCases) {
      if (options_.latency_seconds <= 0 || !wanted(options_.filter, c.name)) continue;
      fmt::print(stderr, "one image at a time: {} ...\n", c.name);
      row_of(c).latency = latency(c);
    }
    return std::move(rows_);
  }

 private:
  // Running is the processes of one kind of mode, and the mode that they are in.
  struct Running {
    std::unique_ptr<Session> session;
    const Case* in = nullptr;
    bool single = false;  // one image at a time
  };

  BenchRow& row_of(const Case& c) {
    const auto at = std::find_if(rows_.begin(), rows_.end(),
                                 [&c](const BenchRow& row) { return row.name == c.name; });
    if (at != rows_.end()) return *at;
    rows_.push_back({.name = c.name});
    return rows_.back();
  }

  [[nodiscard]] ModeOptions mode_of(const Case& c, bool single) const {
    ModeOptions mode = options_.mode;
    mode.integrity = c.integrity;
    mode.privacy = c.privacy;
    mode.precision = c.precision;
    mode.pad_store = c.pad_store;
    if (!c.device) mode.devices = {"none"};
    if (single) {
      mode.micro_batch = mode.in_flight = 1;
      mode.optimise = "latency";
    }
    return mode;
  }

  // session_of gives the processes in the mode of the case. fresh: just started, so that their
  // memory is that of the mode alone.
  Session& session_of(const Case& c, bool fresh, bool single = false) {
    Running& running = running_.at(c.device ? 2 : c.precision == Precision::kFp32 ? 1 : 0);
    if (fresh || running.session == nullptr) {
      running.session.reset();  // the old processes end before new ones take their place
      running.session = std::make_unique<Session>(options_.what, mode_of(c, single));
      if (running.session->planned()) {  // and ran in other modes for that
        running.session.reset();
        running.session = std::make_unique<Session>(options_.what, mode_of(c, single));
      }
    } else if (running.in != &c || running.single != single) {
      running.session->reconfigure(mode_of(c, single));
    }
    running.in = &c;
    running.single = single;
    if (images_.empty()) images_ = random_images(running.session->plan());
    return *running.session;
  }

  // timed runs so many images and returns the seconds; a rejection ends the benchmark.
  double timed(Session& session, std::uint64_t count) {
    Tally tally;
    const auto start = Clock::now();
    const host::Done done = session.run_codes(
        images_, count, [&](std::uint64_t, const Answer& answer) { tally.count(answer); });
    const double seconds = seconds_since(start);
    finish(tally, done);
    return seconds;
  }

  // At first one full pipeline to warm up and to learn the rate, later a fifth of the time; then as
  // many images as fill the time.
  void measure(const Case& c, bool first) {
    Session& session = session_of(c, first && c.device);
    BenchRow& row = row_of(c);
    row.micro_batch = session.micro_batch();
    const std::uint64_t pipeline = row.micro_batch * options_.mode.in_flight;
    const auto filling = [](double rate, double seconds) {
      return static_cast<std::uint64_t>(std::llround(std::ceil(rate * seconds)));
    };
    const std::uint64_t warm =
        first ? pipeline
              : std::clamp<std::uint64_t>(filling(row.samples[0].rate(), options_.seconds / 5),
                                          row.micro_batch, pipeline);
    session.make_pads(warm);
    const double rate = static_cast<double>(warm) / timed(session, warm);
    const std::uint64_t images =
        std::max(pipeline, filling(first ? rate : row.samples[0].rate(), options_.seconds));
    BenchSample sample;
    sample.pads_s = session.make_pads(images);
    const runtime::Stats before = unwrap(session.engine().stats());
    sample.wall_s = timed(session, images);
    sample.stats = planner::since(before, unwrap(session.engine().stats()));
    if (first) {
      note_memory(c, session, row);
      row.link = traffic_of(session.plan(), sample.stats, c.privacy == model::Privacy::kPads);
    }
    if (first) {
      row.total = sample.stats;
    } else {
      planner::add(row.total, sample.stats);
    }
    row.samples.push_back(std::move(sample));
  }

  static void note_memory(const Case& c, Session& session, BenchRow& row) {
    const std::optional<host::Memory> memory = session.engine().memory().trusted;
    if (memory) {
      row.peak_bytes = memory->peak_bytes;
    } else {
      row.no_peak = c.precision == Precision::kFp32
                        ? "runs in the process of the command"
                        : "/proc does not show the trusted process to this user";
    }
  }

  BenchLatency latency(const Case& c) {
    Session& session = session_of(c, false, true);
    BenchLatency out;
    std::size_t next = 0;
    const auto one = [&] {
      const std::span<const std::vector<std::uint8_t>> image(&images_[next++ % images_.size()], 1);
      Tally tally;
      Clock::time_point answered;
      const auto start = Clock::now();
      const host::Done done = session.run_codes(image, 1, [&](std::uint64_t, const Answer& answer) {
        answered = Clock::now();
        tally.count(answer);
      });
      finish(tally, done);
      return std::chrono::duration<double, std::milli>(answered - start).count();
    };
    const std::uint64_t stock = single_pads(session, one);
    const runtime::Stats before = unwrap(session.engine().stats());
    const auto start = Clock::now();
    do {
      if (c.privacy == model::Privacy::kPads && out.ms.size() == stock) break;
      out.ms.push_back(one());
    } while (seconds_since(start) <
             (out.ms.size() < kLeastLatencies ? kLongestLatencies : 1) * options_.latency_seconds);
    const runtime::Stats stats = planner::since(before, unwrap(session.engine().stats()));
    out.layers_outside = layers_outside(stats);
    std::sort(out.ms.begin(), out.ms.end());
    return out;
  }

  // single_pads warms up with three images, and makes as many pads as the time can use up.
  template <class One>
  std::uint64_t single_pads(Session& session, const One& one) {
    session.make_pads(3);
    double ms = 0;
    for (int i = 0; i < 3; ++i) ms = one();
    const auto wanted = static_cast<std::uint64_t>(1e3 * options_.latency_seconds / ms);
    const std::uint64_t stock = std::max<std::uint64_t>(kLeastLatencies, wanted);
    session.make_pads(stock);
    return stock;
  }

  const BenchOptions& options_;
  Images images_;
  std::array<Running, 3> running_;
  std::vector<BenchRow> rows_;
};

}  // namespace

double BenchLatency::percentile(double percent) const {
  const double rank = std::ceil(percent / 100 * static_cast<double>(ms.size()));
  const auto at = static_cast<std::size_t>(std::max(rank, 1.0)) - 1;
  return ms[std::min(at, ms.size() - 1)];
}

Spread spread_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  return {.median = (values[(n - 1) / 2] + values[n / 2]) / 2,
          .min = values.front(),
          .max = values.back()};
}

std::size_t layers_outside(const runtime::Stats& stats) {
  return static_cast<std::size_t>(
      std::count_if(stats.steps.begin(), stats.steps.end(),
                    [](const runtime::StepTime& step) { return step.device_ns > 0; }));
}

std::vector<LayerTraffic> traffic_of(const model::Plan& plan, const runtime::Stats& stats,
                                     bool blinded) {
  std::vector<LayerTraffic> out;
  std::vector<bool> sent(plan.tensors.size(), false);
  for (const runtime::StepTime& step : stats.steps) {
    if (step.device_ns == 0 || step.node >= plan.nodes.size()) continue;
    const model::Node& node = plan.nodes[step.node];
    const auto* linear = std::get_if<model::Linear>(&node.op);
    if (linear == nullptr || !linear->field) continue;
    const std::uint64_t word = field::word_bytes(*linear->field);
    LayerTraffic layer{.node = step.node, .name = layer_name(plan, step.node)};
    if (!sent[node.inputs[0]]) layer.out = linear->in().elements() * (blinded ? word : 1);
    layer.in = linear->out().elements() * word;
    sent[node.inputs[0]] = true;
    out.push_back(std::move(layer));
  }
  return out;
}

std::vector<BenchRow> measure_modes(const BenchOptions& options) { return Bench(options).run(); }

}  // namespace slalom::cli
