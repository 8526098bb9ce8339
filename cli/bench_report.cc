// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "cli/results.h"
#include "cli/terminal.h"
#include "untrusted/host/processors.h"

namespace slalom::cli {
namespace {

constexpr double kGiga = 1e9;

template <class Value>
Spread over(const BenchRow& row, const Value& value) {
  std::vector<double> values;
  for (const BenchSample& sample : row.samples) values.push_back(value(sample));
  return spread_of(std::move(values));
}

Spread rate_of(const BenchRow& row) {
  return over(row, [](const BenchSample& s) { return s.rate(); });
}

Spread amortised_of(const BenchRow& row) {
  return over(row, [](const BenchSample& s) { return s.amortised(); });
}

bool has_pads(const BenchRow& row) { return row.samples[0].pads_s > 0; }

// ratio holds a mode's rate in each round against a baseline's in the same round; nothing if the
// baseline was not measured.
std::optional<Spread> ratio(const std::vector<BenchRow>& rows, const BenchRow& row,
                            const char* baseline) {
  const auto base = std::find_if(rows.begin(), rows.end(),
                                 [baseline](const BenchRow& r) { return r.name == baseline; });
  if (base == rows.end()) return std::nullopt;
  std::vector<double> values;
  for (std::size_t i = 0; i < row.samples.size(); ++i) {
    values.push_back(row.samples[i].rate() / base->samples[i].rate());
  }
  return spread_of(std::move(values));
}

// Link is what a mode moves for an image, and how fast that goes at its median rate.
struct Link {
  double out = 0, in = 0;          // bytes an image
  double out_gbs = 0, in_gbs = 0;  // 10^9 bytes a second
  // share of what the link can carry, of the direction that is fuller.
  [[nodiscard]] double share(double gbs) const { return std::max(out_gbs, in_gbs) / gbs; }
};

Link link_of(const BenchRow& row) {
  const auto images = static_cast<double>(row.total.images);
  Link link{.out = static_cast<double>(row.total.bytes_out) / images,
            .in = static_cast<double>(row.total.bytes_in) / images};
  link.out_gbs = link.out * rate_of(row).median / kGiga;
  link.in_gbs = link.in * rate_of(row).median / kGiga;
  return link;
}

void print_rates(const std::vector<BenchRow>& rows) {
  Table table({"mode", "images/s", "from", "to", "x int8", "x fp32", "with pads", "p50 ms",
               "p99 ms", "memory"});
  const auto times = [](const std::optional<Spread>& s) {
    return s ? fmt::format("{:.2f}", s->median) : "-";
  };
  for (const BenchRow& row : rows) {
    const Spread rate = rate_of(row);
    const auto late = [&row](double percent) {
      return row.latency ? fmt::format("{:.2f}", row.latency->percentile(percent)) : "-";
    };
    table.add({row.name, human_rate(rate.median), human_rate(rate.min), human_rate(rate.max),
               times(ratio(rows, row, kInsideMode)), times(ratio(rows, row, kFloatMode)),
               has_pads(row) ? human_rate(amortised_of(row).median) : "-", late(50), late(99),
               row.peak_bytes ? human_bytes(*row.peak_bytes) : "-"});
  }
  fmt::print("{}", table.text(stdout));
}

void print_details(const BenchOptions& o, const std::vector<BenchRow>& rows) {
  std::vector<std::string> head{"mode",      "checks", "failed", "bits", "trusted ms", "wait ms",
                                "device ms", "pad ms", "out",    "in",   "GB/s out",   "GB/s in"};
  if (o.link_gbs > 0) head.emplace_back("of the link");
  Table table(head);
  for (const BenchRow& row : rows) {
    const auto images = static_cast<double>(row.total.images);
    const auto ms = [&](double total) { return fmt::format("{:.2f}", 1e3 * total / images); };
    double pads_s = row.total.pad_s;
    for (const BenchSample& sample : row.samples) pads_s += sample.pads_s;
    const Link link = link_of(row);
    std::vector<std::string> cells{row.name,
                                   human_count(row.total.checks_performed),
                                   human_count(row.total.checks_failed),
                                   fmt::format("{:.0f}", row.total.soundness_bits),
                                   ms(row.total.trusted_s),
                                   ms(row.total.wait_s),
                                   ms(row.total.device_s),
                                   ms(pads_s),
                                   human_bytes(static_cast<std::uint64_t>(link.out)),
                                   human_bytes(static_cast<std::uint64_t>(link.in)),
                                   fmt::format("{:.2f}", link.out_gbs),
                                   fmt::format("{:.2f}", link.in_gbs)};
    if (o.link_gbs > 0) cells.push_back(fmt::format("{:.0f}%", 100 * link.share(o.link_gbs)));
    table.add(std::move(cells));
  }
  fmt::print("\n{}", table.text(stdout));
}

nlohmann::json spread_json(const std::optional<Spread>& s) {
  if (!s) return nullptr;
  return {{"median", s->median}, {"min", s->min}, {"max", s->max}};
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

nlohmann::json sample_json(const BenchSample& s) {
  return {{"images", s.stats.images},
          {"wall_s", s.wall_s},
          {"pads_s", s.pads_s},
          {"images_per_s", s.rate()},
          {"amortised_images_per_s", s.amortised()},
          {"trusted_s", s.stats.trusted_s},
          {"wait_s", s.stats.wait_s},
          {"device_s", s.stats.device_s},
          {"pad_s", s.stats.pad_s}};
}

nlohmann::json link_json(const BenchOptions& o, const BenchRow& row) {
  const Link link = link_of(row);
  nlohmann::json layers = nlohmann::json::array();
  for (const LayerTraffic& layer : row.link) {
    layers.push_back(
        {{"node", layer.node}, {"name", layer.name}, {"out", layer.out}, {"in", layer.in}});
  }
  nlohmann::json out{{"bytes_out_per_image", link.out},
                     {"bytes_in_per_image", link.in},
                     {"out_gb_per_s", link.out_gbs},
                     {"in_gb_per_s", link.in_gbs},
                     {"layers", std::move(layers)}};
  if (o.link_gbs > 0) out["share"] = link.share(o.link_gbs);
  return out;
}

nlohmann::json latency_json(const BenchRow& row) {
  if (!row.latency) return nullptr;
  const BenchLatency& late = *row.latency;
  return {{"p50", late.percentile(50)}, {"p99", late.percentile(99)},
          {"min", late.ms.front()},     {"max", late.ms.back()},
          {"count", late.ms.size()},    {"layers_outside", late.layers_outside}};
}

nlohmann::json memory_json(const BenchRow& row) {
  if (row.peak_bytes) return {{"trusted_peak_bytes", *row.peak_bytes}};
  return {{"trusted_peak_bytes", nullptr}, {"why", row.no_peak}};
}

nlohmann::json row_json(const BenchOptions& o, const std::vector<BenchRow>& rows,
                        const BenchRow& row) {
  nlohmann::json repetitions = nlohmann::json::array();
  nlohmann::json samples = nlohmann::json::array();
  double wall_s = 0;
  double pads_s = 0;
  for (const BenchSample& sample : row.samples) {
    repetitions.push_back(sample.rate());
    samples.push_back(sample_json(sample));
    wall_s += sample.wall_s;
    pads_s += sample.pads_s;
  }
  return {{"mode", row.name},
          {"images", row.total.images},
          {"wall_s", wall_s},
          {"images_per_s", rate_of(row).median},
          {"amortised_images_per_s", amortised_of(row).median},
          {"repetitions", std::move(repetitions)},
          {"x_int8", spread_json(ratio(rows, row, kInsideMode))},
          {"x_fp32", spread_json(ratio(rows, row, kFloatMode))},
          {"latency_ms", latency_json(row)},
          {"memory", memory_json(row)},
          {"checks", checks_json(row.total)},
          {"layers_outside", layers_outside(row.total)},
          {"micro_batch", row.micro_batch},
          {"timing", timing_json(row.total, pads_s)},
          {"bytes_out", row.total.bytes_out},
          {"bytes_in", row.total.bytes_in},
          {"link", link_json(o, row)},
          {"steps", steps_json(row.total)},
          {"samples", std::move(samples)}};
}

std::size_t threads_of(const ModeOptions& mode) {
  return host::share_processors(mode.trusted_threads, mode.device_threads, mode.devices)
      .trusted_threads;
}

}  // namespace

void print_bench(const BenchOptions& o, const std::vector<BenchRow>& rows) {
  print_rates(rows);
  print_details(o, rows);
  fmt::print(
      "Rates are medians of {}, 'from' and 'to' the slowest and the fastest; x int8 and x fp32 are "
      "medians\nof the ratios in each round. 'with pads' counts the time that pads took "
      "beforehand. "
      "p50 and p99: one\nimage at a time. memory: the most that the trusted process held. Times "
      "and "
      "traffic are for one image;\nthreads work at the same time, so columns may add up to more "
      "than 1/rate.\n",
      counted(rows[0].samples.size(), "interleaved round"));
}

void print_bench_json(const BenchOptions& o, const std::vector<BenchRow>& rows) {
  nlohmann::json modes = nlohmann::json::array();
  for (const BenchRow& row : rows) modes.push_back(row_json(o, rows, row));
  nlohmann::json out{
      {"model", o.what},
      {"device", o.mode.devices.empty() ? std::vector<std::string>{"cpu"} : o.mode.devices},
      {"trusted_threads", threads_of(o.mode)},
      {"micro_batch", o.mode.micro_batch},
      {"in_flight", o.mode.in_flight},
      {"repeat", o.repeat},
      {"modes", std::move(modes)}};
  if (o.link_gbs > 0) out["link_gb_per_s"] = o.link_gbs;
  print_json(out);
}

}  // namespace slalom::cli
