// SPDX-License-Identifier: Apache-2.0
#include "untrusted/planner/costs.h"

#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <utility>
#include <variant>

namespace slalom::planner {
namespace {

using runtime::Placement;
using runtime::StepTime;

// Step is what one step of one sample took, for one image.
struct Step {
  double trusted_ns = 0;
  double device_ns = 0;
  double sent = 0;
};
using Steps = std::map<std::uint32_t, Step>;  // by the node that a step begins with

Steps steps_of(const Sample& sample) {
  Steps out;
  for (const StepTime& s : sample.stats.steps) {
    out[s.node] = {static_cast<double>(s.trusted_ns) / sample.images(),
                   static_cast<double>(s.device_ns) / sample.images(), static_cast<double>(s.sent)};
  }
  return out;
}

// Seen averages what one layer's step took in one state.
struct Seen {
  double sum = 0;
  int n = 0;

  void add(double time) {
    sum += time;
    ++n;
  }
  [[nodiscard]] std::optional<double> mean() const {
    return n == 0 ? std::nullopt : std::optional(sum / n);
  }
};

// Side is what is known of a layer on one side of the border.
struct Side {
  Seen quiet, sending;

  [[nodiscard]] std::optional<double> extra() const {
    if (quiet.n == 0 || sending.n == 0) return std::nullopt;
    return std::max(0.0, *sending.mean() - *quiet.mean());
  }
  // base is the time without sends, if those take `extra_ns`.
  [[nodiscard]] double base(double extra_ns) const {
    if (quiet.n != 0) return *quiet.mean();
    return std::max(0.0, sending.mean().value_or(0) - extra_ns);
  }
};

LayerCost layer_cost(const std::vector<Sample>& samples, const std::vector<Steps>& steps,
                     std::uint32_t node) {
  Side inside;
  Side outside;
  for (std::size_t s = 0; s < samples.size(); ++s) {
    const auto step = steps[s].find(node);
    if (step == steps[s].end()) continue;
    Side& side = samples[s].placement.remote[node] ? outside : inside;
    (step->second.sent > 0 ? side.sending : side.quiet).add(step->second.trusted_ns);
  }
  LayerCost out{.node = node};
  const auto in = inside.extra();
  const auto out_extra = outside.extra();
  out.send_inside_ns = in.value_or(out_extra.value_or(0));
  out.send_outside_ns = out_extra.value_or(in.value_or(0));
  out.inside_ns = inside.base(out.send_inside_ns);
  out.outside_ns = outside.base(out.send_outside_ns);
  return out;
}

// heads says for each tensor with which layer the step begins that makes it: operators run with the
// last layer that they need.
constexpr std::uint32_t kNoHead = ~0U;
std::vector<std::uint32_t> heads(const model::Plan& plan) {
  std::vector<std::uint32_t> out(plan.tensors.size(), kNoHead);
  for (std::uint32_t n = 0; n < plan.nodes.size(); ++n) {
    const model::Node& node = plan.nodes[n];
    std::uint32_t& head = out[node.output];
    if (std::holds_alternative<model::Linear>(node.op)) {
      head = n;
      continue;
    }
    for (const model::TensorId in : node.inputs) {
      if (out[in] != kNoHead && (head == kNoHead || out[in] > head)) head = out[in];
    }
  }
  return out;
}

double device_time(const std::vector<Steps>& steps, std::uint32_t node) {
  for (const Steps& sample : steps) {
    const auto step = sample.find(node);
    if (step != sample.end() && step->second.device_ns > 0) return step->second.device_ns;
  }
  return 0;
}

double value(const Predicted& predicted, Objective objective) {
  if (objective == Objective::kLatency) return predicted.latency_ns();
  return predicted.bottleneck_ns();
}

// Search is the descent of choose.
class Search {
 public:
  Search(const model::Plan& plan, const Costs& costs, Objective objective,
         const std::vector<Override>& overrides)
      : plan_(plan), costs_(costs), objective_(objective) {
    std::map<model::TensorId, std::vector<std::uint32_t>> readers;
    for (const LayerCost& layer : costs.layers) {
      const auto fixed = std::find_if(overrides.begin(), overrides.end(),
                                      [&](const Override& o) { return o.node == layer.node; });
      if (fixed != overrides.end()) {
        fixed_.push_back(*fixed);
        continue;
      }
      moves_.push_back({layer.node});
      readers[plan.nodes[layer.node].inputs[0]].push_back(layer.node);
    }
    for (auto& [tensor, nodes] : readers) {
      if (nodes.size() > 1) moves_.push_back(std::move(nodes));
    }
    // Neighbours together: what one saves may only show when the next moves too.
    for (std::size_t i = 1; i < costs.layers.size() && i < moves_.size(); ++i) {
      if (moves_[i].size() == 1 && moves_[i - 1].size() == 1) {
        moves_.push_back({moves_[i - 1][0], moves_[i][0]});
      }
    }
  }

  Placement run() {
    Placement best;
    double least = std::numeric_limits<double>::max();
    for (const auto& wants :
         {std::function<bool(const LayerCost&)>([](const LayerCost&) { return false; }),
          std::function<bool(const LayerCost&)>([](const LayerCost&) { return true; }),
          std::function<bool(const LayerCost&)>(
              [](const LayerCost& l) { return l.outside_ns < l.inside_ns; })}) {
      Placement placement{std::vector<bool>(plan_.nodes.size(), false)};
      for (const LayerCost& layer : costs_.layers) placement.remote[layer.node] = wants(layer);
      for (const Override& o : fixed_) placement.remote[o.node] = o.remote;
      const double reached = descend(placement);
      if (reached >= least) continue;
      least = reached;
      best = std::move(placement);
    }
    return best;
  }

 private:
  double descend(Placement& placement) const {
    double now = value(predict(plan_, costs_, placement), objective_);
    for (bool better = true; better;) {
      better = false;
      for (const std::vector<std::uint32_t>& move : moves_) {
        for (const bool remote : {false, true}) {
          Placement next = placement;
          for (const std::uint32_t node : move) next.remote[node] = remote;
          const double then = value(predict(plan_, costs_, next), objective_);
          if (then >= now) continue;
          now = then;
          placement = std::move(next);
          better = true;
        }
      }
    }
    return now;
  }

  const model::Plan& plan_;
  const Costs& costs_;
  const Objective objective_;
  std::vector<Override> fixed_;
  std::vector<std::vector<std::uint32_t>> moves_;  // nodes that change sides together
};

}  // namespace

Predicted predict(const model::Plan& plan, const Costs& costs, const Placement& placement) {
  const std::vector<std::uint32_t> head = heads(plan);
  std::vector<bool> sends(plan.nodes.size(), false);  // by head
  for (const LayerCost& layer : costs.layers) {
    const std::uint32_t from = head[plan.nodes[layer.node].inputs[0]];
    if (placement.remote[layer.node] && from != kNoHead) sends[from] = true;
  }
  Predicted out{.trusted_ns = costs.fixed_ns, .device_ns = 0};
  for (const LayerCost& layer : costs.layers) {
    const bool remote = placement.remote[layer.node];
    out.trusted_ns += remote ? layer.outside_ns : layer.inside_ns;
    if (sends[layer.node]) out.trusted_ns += remote ? layer.send_outside_ns : layer.send_inside_ns;
    if (remote) out.device_ns += layer.device_ns;
  }
  out.device_ns /= static_cast<double>(std::max<std::size_t>(1, costs.devices));
  return out;
}

Placement choose(const model::Plan& plan, const Costs& costs, Objective objective,
                 const std::vector<Override>& overrides) {
  return Search(plan, costs, objective, overrides).run();
}

std::vector<Placement> probes(const model::Plan& plan) {
  const Placement outside = runtime::default_placement(plan);
  const Placement inside{std::vector<bool>(plan.nodes.size(), false)};
  Placement even = inside;
  Placement odd = inside;
  bool turn = false;
  for (std::size_t n = 0; n < plan.nodes.size(); ++n) {
    if (!outside.remote[n]) continue;
    (turn ? odd : even).remote[n] = true;
    turn = !turn;
  }
  return {outside, inside, even, odd};
}

Costs fit(const model::Plan& plan, const std::vector<Sample>& samples, std::size_t devices) {
  std::vector<Steps> steps;
  steps.reserve(samples.size());
  for (const Sample& sample : samples) steps.push_back(steps_of(sample));
  Costs out;
  out.devices = devices;
  const Placement leaves = runtime::default_placement(plan);
  for (std::uint32_t n = 0; n < plan.nodes.size(); ++n) {
    if (!leaves.remote[n]) continue;
    out.layers.push_back(layer_cost(samples, steps, n));
    out.layers.back().device_ns = device_time(steps, n);
  }
  // What is left of the trusted time belongs to no layer: other operators, the way in and out.
  double rest = 0;
  for (std::size_t s = 0; s < samples.size(); ++s) {
    const double measured = 1e9 * samples[s].stats.trusted_s / samples[s].images();
    rest += measured - predict(plan, out, samples[s].placement).trusted_ns;
  }
  out.fixed_ns = std::max(0.0, rest / static_cast<double>(samples.size()));
  return out;
}

}  // namespace slalom::planner
