// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "cli/command.h"
#include "cli/failure.h"
#include "cli/files.h"
#include "cli/modes.h"
#include "cli/placement.h"
#include "cli/placement_picture.h"
#include "cli/results.h"
#include "cli/session.h"
#include "cli/terminal.h"

namespace slalom::cli {
namespace {

using planner::LayerCost;

struct Options {
  std::string plan;
  std::string svg;
  bool explain = false;
  bool json = false;
  ModeOptions mode;
};

std::string shape_text(const model::Plan& plan, std::uint32_t node) {
  const auto& linear = std::get<model::Linear>(plan.nodes[node].op);
  const model::Conv& conv = linear.stages[0].conv;
  const model::Shape& out = linear.out();
  const char* kind = linear.stages.size() > 1 ? "separable"
                     : conv.depthwise()       ? "depthwise"
                     : conv.taps() > 1        ? "conv"
                     : out.positions() > 1    ? "pointwise"
                                              : "dense";
  if (out.positions() == 1) return fmt::format("{} {} to {}", kind, conv.in.elements(), out.c);
  return fmt::format("{} {}x{}, {} to {}, {}x{}", kind, conv.window.kernel_h, conv.window.kernel_w,
                     conv.in.c, out.c, out.h, out.w);
}

std::string micros(double ns) { return fmt::format("{:.1f}", ns / 1e3); }

// why says in words what the search weighed for one layer.
std::string why(const model::Plan& plan, const planner::Costs& costs, const LayerCost& layer,
                const runtime::Placement& placement, const ModeOptions& mode) {
  for (const planner::Override& o : overrides_of(plan, mode)) {
    if (o.node == layer.node) return "as you asked";
  }
  runtime::Placement other = placement;
  other.remote[layer.node] = !other.remote[layer.node];
  const planner::Predicted now = planner::predict(plan, costs, placement);
  const planner::Predicted then = planner::predict(plan, costs, other);
  const double trusted = (then.trusted_ns - now.trusted_ns) / 1e3;
  const double device = (then.device_ns - now.device_ns) / 1e3;
  return fmt::format("elsewhere: trusted {:+.1f}, device {:+.1f} us", trusted, device);
}

// Measured rate and predicted rate of every placement that was run.
void print_samples(const model::Plan& plan, const planner::Planned& planned) {
  constexpr std::array kNames{"all outside", "all inside", "every other", "the others", "chosen"};
  Table table({"placement", "layers out", "images/s", "predicted", "trusted us", "device us"});
  for (std::size_t i = 0; i < planned.samples.size(); ++i) {
    const planner::Sample& s = planned.samples[i];
    const planner::Predicted p = planner::predict(plan, planned.costs, s.placement);
    table.add(
        {fmt::format("{}{}", kNames.at(std::min<std::size_t>(i, 4)),
                     i == planned.used ? " (used)" : ""),
         fmt::format("{}", std::count(s.placement.remote.begin(), s.placement.remote.end(), true)),
         human_rate(s.rate()), human_rate(1e9 / p.bottleneck_ns()), micros(p.trusted_ns),
         micros(p.device_ns)},
        i == planned.used ? Style::kGood : Style::kPlain);
  }
  fmt::print("\n{}Micro-batches of {}.\n", table.text(stdout),
             counted(planned.micro_batch, "image"));
}

void print_table(const model::Plan& plan, const planner::Planned& planned, const Options& o) {
  std::vector<std::string> head{"layer",      "what",    "where",    "inside us",
                                "outside us", "send us", "device us"};
  if (o.explain) head.emplace_back("why");
  Table table(head);
  for (const LayerCost& layer : planned.costs.layers) {
    const bool remote = planned.placement.remote[layer.node];
    std::vector<std::string> row{
        layer_name(plan, layer.node), shape_text(plan, layer.node),
        remote ? "device" : "inside", micros(layer.inside_ns),
        micros(layer.outside_ns),     micros(remote ? layer.send_outside_ns : layer.send_inside_ns),
        micros(layer.device_ns)};
    if (o.explain) {
      row.push_back(why(plan, planned.costs, layer, planned.placement, o.mode));
    }
    table.add(std::move(row));
  }
  fmt::print("{}", table.text(stdout));
  fmt::print(
      "Times are for one image. inside: the trusted process computes the layer; outside: it takes "
      "and\nchecks a device's answer; send: what it takes more where the next layer is outside. "
      "Everything\nelse takes it {} us.\n",
      micros(planned.costs.fixed_ns));
}

nlohmann::json plan_json(const model::Plan& plan, const planner::Planned& planned) {
  nlohmann::json layers = nlohmann::json::array();
  for (const LayerCost& layer : planned.costs.layers) {
    layers.push_back({{"node", layer.node},
                      {"name", layer_name(plan, layer.node)},
                      {"remote", static_cast<bool>(planned.placement.remote[layer.node])},
                      {"inside_ns", layer.inside_ns},
                      {"outside_ns", layer.outside_ns},
                      {"send_inside_ns", layer.send_inside_ns},
                      {"send_outside_ns", layer.send_outside_ns},
                      {"device_ns", layer.device_ns}});
  }
  nlohmann::json samples = nlohmann::json::array();
  for (const planner::Sample& s : planned.samples) {
    const planner::Predicted p = planner::predict(plan, planned.costs, s.placement);
    samples.push_back(
        {{"layers_outside", std::count(s.placement.remote.begin(), s.placement.remote.end(), true)},
         {"images_per_s", s.rate()},
         {"trusted_ns", 1e9 * s.stats.trusted_s / s.images()},
         {"wait_ns", 1e9 * s.stats.wait_s / s.images()},
         {"predicted_images_per_s", 1e9 / p.bottleneck_ns()},
         {"predicted_trusted_ns", p.trusted_ns},
         {"predicted_device_ns", p.device_ns}});
  }
  return {{"model", plan.name},
          {"layers", layers},
          {"samples", samples},
          {"used", planned.used},
          {"micro_batch", planned.micro_batch},
          {"fixed_ns", planned.costs.fixed_ns}};
}

int plan_command(Options o) {
  if (o.mode.placement == "auto") o.mode.placement = "planned";
  if (!wants_plan(o.mode)) {
    throw Stop(Errc::kInvalidArgument,
               "there is nothing to plan: with --device none or a fixed --placement every layer's "
               "place is given");
  }
  if (!o.svg.empty()) check_output(o.svg, std::span(&o.plan, 1));
  Session session(o.plan, o.mode, true);
  const planner::Planned planned = session.plan_now();
  if (!o.svg.empty()) write_picture(o.svg, session.plan(), planned, mode_text(o.mode));
  if (o.json) {
    print_json(plan_json(session.plan(), planned));
    return 0;
  }
  print_table(session.plan(), planned, o);
  print_samples(session.plan(), planned);
  return 0;
}

}  // namespace

Action define_plan(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->plan, "Plan file, made by slalom convert or slalom model")
      ->type_name("MODEL")
      ->required();
  app.add_flag("--explain", o->explain, "Say for each layer what the other side would cost");
  app.add_option("--svg", o->svg, "Draw the placement and its times into this file")
      ->type_name("FILE");
  app.add_flag("--json", o->json, "Print one JSON object instead of text");
  add_mode_options(app, o->mode);
  app.footer(
      "Measures the network on this machine with all layers outside, all inside and every other\n"
      "one outside, chooses the placement with the smallest bottleneck, runs it, and keeps the\n"
      "best of all that ran. `run`, `eval` and `bench` remember the choice for the same network,\n"
      "mode and devices. Where a layer runs changes no answer and weakens no guarantee: what\n"
      "stays inside needs no check.\n\n"
      "Examples:\n"
      "  slalom plan vgg16.slalom --device cuda:0 --explain\n"
      "  slalom plan resnet50.slalom --device cuda:0 --privacy pads --svg placement.svg\n"
      "  slalom plan net.slalom --device cpu --optimise latency --micro-batch 1 --in-flight 1");
  return [o] { return plan_command(*o); };
}

}  // namespace slalom::cli
