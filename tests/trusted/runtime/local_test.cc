// SPDX-License-Identifier: Apache-2.0
// Networks that run wholly in the trusted process: every operator against the reference
// interpreter.

#include <gtest/gtest.h>

#include <set>

#include "trusted/runtime/fixture.h"

namespace slalom::testing {
namespace {

constexpr unsigned kPlans = 120;

TEST(LocalExecutor, RandomPlansCoverEveryOperator) {
  std::set<std::size_t> seen;
  std::size_t wide = 0;
  std::size_t broadcast = 0;
  for (unsigned seed = 0; seed < kPlans; ++seed) {
    const model::Plan plan = random_plan(seed);
    ASSERT_TRUE(model::validate(plan).ok())
        << seed << ": " << model::validate(plan).error().message;
    for (const model::Node& node : plan.nodes) {
      seen.insert(node.op.index());
      const auto& out = plan.tensors[node.output];
      if (out.dtype == model::Dtype::kI32) ++wide;
      if (node.inputs.size() == 2 && node.op.index() <= 2 &&
          plan.tensors[node.inputs[0]].shape != plan.tensors[node.inputs[1]].shape) {
        ++broadcast;
      }
    }
  }
  EXPECT_EQ(seen.size(), std::variant_size_v<model::Op>);
  EXPECT_GT(wide, 20U);
  EXPECT_GT(broadcast, 20U);
}

TEST(LocalExecutor, RandomPlansGiveTheReferenceBitForBit) {
  for (unsigned seed = 0; seed < kPlans; ++seed) {
    SCOPED_TRACE(seed);
    Rig rig(random_plan(seed));
    rig.num_ports = 0;
    rig.options.threads = 1 + seed % 3;
    rig.options.micro_batch = 1 + seed % 4;
    rig.start();
    const auto images = random_images(rig.plan, 5, seed);
    rig.expect_right(images, expected_outputs(rig.plan, images));
    EXPECT_EQ(rig.executor->stats().images, 5U);
    EXPECT_EQ(rig.executor->stats().checks_performed, 0U);
  }
}

TEST(LocalExecutor, EveryProcessorGivesTheSameBits) {
  for (unsigned seed = 200; seed < 230; ++seed) {
    SCOPED_TRACE(seed);
    Rig rig(random_plan(seed));
    rig.num_ports = 0;
    const auto images = random_images(rig.plan, 3, seed);
    const auto expected = expected_outputs(rig.plan, images);
    for (const NamedCpu& level : cpu_levels()) {
      SCOPED_TRACE(level.name);
      rig.options.cpu = level.cpu;
      rig.start();
      rig.expect_right(images, expected);
    }
  }
}

TEST(LocalExecutor, ExtremesOfEveryOperator) {
  // Inputs at the ends of the range make sums and windows as large as they get.
  for (unsigned seed = 300; seed < 330; ++seed) {
    SCOPED_TRACE(seed);
    Rig rig(random_plan(seed, 16));
    rig.num_ports = 0;
    rig.start();
    auto images = random_images(rig.plan, 3, seed);
    std::fill(images[0].begin(), images[0].end(), std::uint8_t{0});
    std::fill(images[1].begin(), images[1].end(), std::uint8_t{255});
    for (auto& q : images[2]) q = q < 128 ? 0 : 255;
    rig.expect_right(images, expected_outputs(rig.plan, images));
  }
}

TEST(LocalExecutor, AnOutputMayBeAnInput) {
  PlanBuilder b;
  const auto x = b.input({3, 3, 2});
  const auto y = b.max_pool(x, {});
  Rig rig(b.finish({x, y, y}));
  rig.num_ports = 0;
  rig.start();
  const auto images = random_images(rig.plan, 2, 1);
  rig.expect_right(images, expected_outputs(rig.plan, images));
}

}  // namespace
}  // namespace slalom::testing
