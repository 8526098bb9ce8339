// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/bench_micro.h"
#include "cli/command.h"
#include "cli/failure.h"
#include "cli/modes.h"
#include "cli/results.h"
#include "cli/session.h"
#include "cli/terminal.h"
#include "untrusted/host/processors.h"
#include "untrusted/planner/planner.h"

namespace slalom::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string what;
  double seconds = 5;
  std::string filter;
  bool json = false;
  ModeOptions mode;  // device, threads and sizes; integrity and privacy are what is compared
};

// Row is one measured mode. Times and traffic are for one image.
struct Row {
  std::string name;
  runtime::Stats stats;
  double wall_s = 0;
  double pads_s = 0;

  [[nodiscard]] double images() const { return static_cast<double>(stats.images); }
  [[nodiscard]] double rate() const { return images() / wall_s; }
  [[nodiscard]] double amortised() const { return images() / (wall_s + pads_s); }
};

using Images = std::vector<std::vector<std::uint8_t>>;

// timed runs so many images and returns the seconds; a rejection ends the benchmark.
double timed(Session& session, const Images& images, std::uint64_t count) {
  Tally tally;
  const auto start = Clock::now();
  const host::Done done = session.run_codes(
      images, count, [&](std::uint64_t, const Answer& answer) { tally.count(answer); });
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  finish(tally, done);
  return seconds;
}

Row measure(Session& session, const Images& inputs, const std::string& name, const Options& o) {
  // One full pipeline to warm up and to learn the rate, then as many images as fill the time.
  const std::uint64_t warm = o.mode.micro_batch * o.mode.in_flight;
  session.make_pads(warm);
  const double rate = static_cast<double>(warm) / timed(session, inputs, warm);
  const auto images =
      std::max(warm, static_cast<std::uint64_t>(std::llround(std::ceil(rate * o.seconds))));
  Row row;
  row.name = name;
  row.pads_s = session.make_pads(images);
  const runtime::Stats before = unwrap(session.engine().stats());
  row.wall_s = timed(session, inputs, images);
  row.stats = planner::since(before, unwrap(session.engine().stats()));
  return row;
}

// Case is one mode of the comparison.
struct Case {
  const char* name;
  bool device;
  model::Integrity integrity;
  model::Privacy privacy;
  Precision precision;
};

constexpr auto kInt8 = Precision::kInt8;
constexpr std::array kCases{
    Case{"float32 baseline", false, model::Integrity::kOff, model::Privacy::kOff, Precision::kFp32},
    Case{"trusted only, int8", false, model::Integrity::kOff, model::Privacy::kOff, kInt8},
    Case{"unchecked", true, model::Integrity::kOff, model::Privacy::kOff, kInt8},
    Case{"verified, preprocessed", true, model::Integrity::kPreprocessed, model::Privacy::kOff,
         kInt8},
    Case{"verified, batched", true, model::Integrity::kBatched, model::Privacy::kOff, kInt8},
    Case{"verified, plain", true, model::Integrity::kPlain, model::Privacy::kOff, kInt8},
    Case{"private", true, model::Integrity::kOff, model::Privacy::kPads, kInt8},
    Case{"private + verified", true, model::Integrity::kPreprocessed, model::Privacy::kPads, kInt8},
};

// wanted says whether one of the names that --only gives, with "|" between, is part of this one.
bool wanted(const Options& o, const std::string& name) {
  if (o.filter.empty()) return true;
  for (std::size_t at = 0; at <= o.filter.size();) {
    const std::size_t end = std::min(o.filter.find('|', at), o.filter.size());
    if (end > at && name.find(o.filter.substr(at, end - at)) != std::string::npos) return true;
    at = end + 1;
  }
  return false;
}

std::vector<Row> measure_all(const Options& o) {
  std::vector<Row> rows;
  Images inputs;
  std::unique_ptr<Session> session;
  std::optional<std::pair<bool, Precision>> started;
  for (const Case& c : kCases) {
    if (!wanted(o, c.name)) continue;
    ModeOptions mode = o.mode;
    mode.integrity = c.integrity;
    mode.privacy = c.privacy;
    mode.precision = c.precision;
    if (!c.device) mode.devices = {"none"};
    if (started != std::pair(c.device, c.precision)) {
      session.reset();  // the old processes end before new ones take the processors
      session = std::make_unique<Session>(o.what, mode);
      started = {c.device, c.precision};
    } else {
      session->reconfigure(mode);
    }
    if (inputs.empty()) inputs = random_images(session->plan());
    fmt::print(stderr, "{} ...\n", c.name);
    rows.push_back(measure(*session, inputs, c.name, o));
  }
  if (rows.empty()) {
    throw Stop(Errc::kInvalidArgument,
               fmt::format("no mode has '{}' in its name; leave out --only", o.filter));
  }
  return rows;
}

void print_rows(const std::vector<Row>& rows) {
  const auto baseline = std::find_if(rows.begin(), rows.end(),
                                     [](const Row& r) { return r.name == "trusted only, int8"; });
  Table table({"mode", "images/s", "with pads", "x int8", "checks", "failed", "bits", "trusted ms",
               "wait ms", "device ms", "pad ms", "out", "in"});
  for (const Row& r : rows) {
    const auto per_image = [&](double total) { return fmt::format("{:.2f}", total / r.images()); };
    const auto bytes = [&](std::uint64_t n) {
      return human_bytes(static_cast<std::uint64_t>(static_cast<double>(n) / r.images()));
    };
    table.add({r.name, human_rate(r.rate()), r.pads_s > 0 ? human_rate(r.amortised()) : "-",
               baseline == rows.end() ? "-" : fmt::format("{:.2f}", r.rate() / baseline->rate()),
               human_count(r.stats.checks_performed), human_count(r.stats.checks_failed),
               fmt::format("{:.0f}", r.stats.soundness_bits), per_image(1e3 * r.stats.trusted_s),
               per_image(1e3 * r.stats.wait_s), per_image(1e3 * r.stats.device_s),
               per_image(1e3 * (r.pads_s + r.stats.pad_s)), bytes(r.stats.bytes_out),
               bytes(r.stats.bytes_in)});
  }
  fmt::print("{}", table.text(stdout));
  fmt::print(
      "Times and traffic are for one image; threads work at the same time, so columns may add up "
      "to\nmore than 1/rate. 'with pads' counts the time that pads took beforehand as well.\n");
}

nlohmann::json steps_json(const runtime::Stats& stats) {
  nlohmann::json out = nlohmann::json::array();
  for (const runtime::StepTime& step : stats.steps) {
    const nlohmann::json node =
        step.node == runtime::StepTime::kInputs ? nlohmann::json() : nlohmann::json(step.node);
    out.push_back({node, step.trusted_ns, step.device_ns});
  }
  return out;
}

// Layers with device time were outside.
std::size_t layers_outside(const runtime::Stats& stats) {
  return static_cast<std::size_t>(
      std::count_if(stats.steps.begin(), stats.steps.end(),
                    [](const runtime::StepTime& step) { return step.device_ns > 0; }));
}

nlohmann::json rows_json(const std::vector<Row>& rows) {
  nlohmann::json out = nlohmann::json::array();
  for (const Row& r : rows) {
    out.push_back({{"mode", r.name},
                   {"images", r.stats.images},
                   {"wall_s", r.wall_s},
                   {"images_per_s", r.rate()},
                   {"amortised_images_per_s", r.amortised()},
                   {"checks", checks_json(r.stats)},
                   {"layers_outside", layers_outside(r.stats)},
                   {"timing", timing_json(r.stats, r.pads_s)},
                   {"bytes_out", r.stats.bytes_out},
                   {"bytes_in", r.stats.bytes_in},
                   {"steps", steps_json(r.stats)}});
  }
  return out;
}

std::size_t threads_of(const ModeOptions& mode) {
  return host::share_processors(mode.trusted_threads, mode.device_threads, mode.devices)
      .trusted_threads;
}

int bench(const Options& o) {
  if (o.what == "micro") return bench_micro(o.filter, o.json);
  const std::vector<Row> rows = measure_all(o);
  if (o.json) {
    print_json(
        {{"model", o.what},
         {"device", o.mode.devices.empty() ? std::vector<std::string>{"cpu"} : o.mode.devices},
         {"trusted_threads", threads_of(o.mode)},
         {"micro_batch", o.mode.micro_batch},
         {"in_flight", o.mode.in_flight},
         {"modes", rows_json(rows)}});
  } else {
    print_rows(rows);
  }
  return 0;
}

}  // namespace

Action define_bench(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  app.add_option("what", o->what, "A plan file, or micro for the kernels")
      ->type_name("MODEL|micro")
      ->required();
  app.add_option("--seconds", o->seconds, "Time for each mode, after a warm-up")
      ->type_name("S")
      ->check(CLI::Range(0.01, 3600.0))
      ->capture_default_str();
  app.add_option("--only", o->filter,
                 "Only modes (micro: kernels) with this in their name; several with | between")
      ->type_name("TEXT");
  app.add_flag("--json", o->json, "Print one JSON object instead of text");
  add_tuning_options(app, o->mode);
  app.footer(
      "Runs a network in every mode beside the two baselines that compute everything inside the\n"
      "trusted process, on random inputs. The answers are checked as always.\n\n"
      "Examples:\n"
      "  slalom bench vgg16.slalom\n"
      "  slalom bench vgg16.slalom --only verified --micro-batch 8\n"
      "  slalom bench micro");
  return [o] { return bench(*o); };
}

}  // namespace slalom::cli
