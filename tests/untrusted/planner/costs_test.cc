// SPDX-License-Identifier: Apache-2.0
#include "untrusted/planner/costs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace slalom::planner {
namespace {

using runtime::Placement;
using runtime::StepTime;

// chain is a network of n dense layers with a field, each followed by an operator of its own.
model::Plan chain(std::uint32_t n) {
  model::Plan plan;
  const model::Shape shape{1, 1, 4};
  const auto tensor = [&] {
    plan.tensors.push_back({.name = "t" + std::to_string(plan.tensors.size()), .shape = shape});
    return static_cast<model::TensorId>(plan.tensors.size() - 1);
  };
  model::TensorId at = tensor();
  plan.inputs = {at};
  for (std::uint32_t i = 0; i < n; ++i) {
    model::Linear linear;
    linear.stages.push_back({{.in = shape, .out = shape}, std::vector<std::int8_t>(16)});
    linear.field = field::Field::kP24;
    const model::TensorId sum = tensor();
    plan.nodes.push_back({.inputs = {at}, .output = sum, .op = linear});
    at = tensor();
    plan.nodes.push_back({.inputs = {sum}, .output = at, .op = model::Table{}});
  }
  plan.outputs = {{.tensor = at}};
  return plan;
}

Costs random_costs(const model::Plan& plan, std::mt19937& random) {
  std::uniform_real_distribution<double> some(1'000, 100'000);
  Costs costs;
  costs.fixed_ns = some(random);
  for (std::uint32_t n = 0; n < plan.nodes.size(); n += 2) {
    costs.layers.push_back({.node = n,
                            .inside_ns = some(random),
                            .outside_ns = some(random) / 2,
                            .send_inside_ns = some(random) / 4,
                            .send_outside_ns = some(random) / 4,
                            .device_ns = some(random) / 2});
  }
  costs.layers.back().send_inside_ns = costs.layers.back().send_outside_ns = 0;  // nobody reads it
  return costs;
}

Placement placement_of(const model::Plan& plan, std::uint32_t bits) {
  Placement out{std::vector<bool>(plan.nodes.size(), false)};
  for (std::uint32_t n = 0; n < plan.nodes.size(); n += 2) out.remote[n] = (bits >> n / 2 & 1) != 0;
  return out;
}

// measured is what a machine with these costs would report.
Sample measured(const model::Plan& plan, const Costs& truth, const Placement& placement) {
  constexpr std::uint64_t kImages = 10;
  Sample out{.placement = placement, .stats = {}, .wall_s = 1};
  out.stats.images = kImages;
  out.stats.trusted_s = kImages * predict(plan, truth, placement).trusted_ns * 1e-9;
  out.stats.steps.push_back({.node = StepTime::kInputs, .trusted_ns = 10});
  for (std::size_t i = 0; i < truth.layers.size(); ++i) {
    const LayerCost& layer = truth.layers[i];
    const bool remote = placement.remote[layer.node];
    const bool sends = i + 1 < truth.layers.size() && placement.remote[truth.layers[i + 1].node];
    double time = remote ? layer.outside_ns : layer.inside_ns;
    if (sends) time += remote ? layer.send_outside_ns : layer.send_inside_ns;
    out.stats.steps.push_back(
        {.node = layer.node,
         .trusted_ns = static_cast<std::uint64_t>(kImages * time),
         .device_ns = remote ? static_cast<std::uint64_t>(kImages * layer.device_ns) : 0,
         .sent = sends ? 4U : 0U});
  }
  return out;
}

TEST(PlannerCosts, AFitPredictsPlacementsThatItHasNotSeen) {
  std::mt19937 random(1);
  const model::Plan plan = chain(7);
  for (int round = 0; round < 20; ++round) {
    const Costs truth = random_costs(plan, random);
    std::vector<Sample> samples;
    for (const Placement& probe : probes(plan)) samples.push_back(measured(plan, truth, probe));
    const Costs found = fit(plan, samples, 1);
    for (std::uint32_t bits = 0; bits < 128; ++bits) {
      const Placement placement = placement_of(plan, bits);
      const Predicted is = predict(plan, found, placement);
      const Predicted should = predict(plan, truth, placement);
      EXPECT_NEAR(is.trusted_ns, should.trusted_ns, 10) << bits;
      EXPECT_NEAR(is.device_ns, should.device_ns, 10) << bits;
    }
  }
}

TEST(PlannerCosts, TheChoiceIsCloseToTheBestOfAll) {
  std::mt19937 random(2);
  const model::Plan plan = chain(9);
  int best_found = 0;
  constexpr int kRounds = 50;
  for (int round = 0; round < kRounds; ++round) {
    const Costs costs = random_costs(plan, random);
    double least = 1e18;
    for (std::uint32_t bits = 0; bits < 512; ++bits) {
      least = std::min(least, predict(plan, costs, placement_of(plan, bits)).bottleneck_ns());
    }
    const Placement chosen = choose(plan, costs, Objective::kThroughput, {});
    const double reached = predict(plan, costs, chosen).bottleneck_ns();
    EXPECT_LE(reached, 1.05 * least);
    best_found += reached <= least * (1 + 1e-12) ? 1 : 0;
  }
  EXPECT_GE(best_found, kRounds * 8 / 10);
}

TEST(PlannerCosts, LatencyAddsUpWhatThroughputOverlaps) {
  const model::Plan plan = chain(2);
  Costs costs;
  // Outside saves trusted time but takes longer in all.
  for (const std::uint32_t n : {0U, 2U}) {
    costs.layers.push_back({.node = n, .inside_ns = 100, .outside_ns = 10, .device_ns = 95});
  }
  const Placement fast = choose(plan, costs, Objective::kThroughput, {});
  const Placement soon = choose(plan, costs, Objective::kLatency, {});
  EXPECT_EQ(std::count(fast.remote.begin(), fast.remote.end(), true), 1);
  EXPECT_EQ(std::count(soon.remote.begin(), soon.remote.end(), true), 0);
}

TEST(PlannerCosts, OverridesStand) {
  std::mt19937 random(3);
  const model::Plan plan = chain(6);
  for (int round = 0; round < 20; ++round) {
    const Costs costs = random_costs(plan, random);
    const std::vector<Override> overrides{{2, true}, {6, false}, {8, round % 2 == 0}};
    const Placement chosen = choose(plan, costs, Objective::kThroughput, overrides);
    EXPECT_TRUE(chosen.remote[2]);
    EXPECT_FALSE(chosen.remote[6]);
    EXPECT_EQ(chosen.remote[8], round % 2 == 0);
  }
}

TEST(PlannerCosts, SeveralDevicesShareTheDeviceTime) {
  std::mt19937 random(4);
  const model::Plan plan = chain(4);
  Costs costs = random_costs(plan, random);
  const Placement outside = runtime::default_placement(plan);
  const double one = predict(plan, costs, outside).device_ns;
  costs.devices = 4;
  EXPECT_DOUBLE_EQ(predict(plan, costs, outside).device_ns, one / 4);
}

TEST(PlannerCosts, OnlyLayersWithAFieldEverLeave) {
  model::Plan plan = chain(3);
  std::get<model::Linear>(plan.nodes[2].op).field.reset();
  for (const Placement& probe : probes(plan)) {
    EXPECT_TRUE(runtime::check_placement(plan, probe).ok());
    EXPECT_FALSE(probe.remote[2]);
  }
}

}  // namespace
}  // namespace slalom::planner
