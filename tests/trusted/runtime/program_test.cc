// SPDX-License-Identifier: Apache-2.0
#include "runtime/program.h"

#include <gtest/gtest.h>

#include "field/kernels.h"
#include "trusted/runtime/random_plan.h"

namespace slalom::runtime {
namespace {

Operators operators_of(const model::Plan& plan) {
  Operators out;
  for (const auto& node : plan.nodes) {
    out.push_back(make_operator({plan, node, choose_op_kernels({}), field::choose_kernels({})}));
  }
  return out;
}

std::size_t steps_of_kind(const Program& program, StepKind kind) {
  return static_cast<std::size_t>(
      std::count_if(program.steps.begin(), program.steps.end(),
                    [&](const Step& step) { return step.kind == kind; }));
}

constexpr model::Window kSame3{
    .kernel_h = 3, .kernel_w = 3, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1};
constexpr model::Window kHalve{.kernel_h = 2, .kernel_w = 2, .stride_h = 2, .stride_w = 2};

TEST(Program, OperatorsJoinTheLayerBeforeThem) {
  testing::PlanBuilder b;
  const auto x = b.input({9, 9, 3});
  const auto c1 = b.conv(x, {.out_c = 8, .window = kSame3});
  const auto t1 = b.node({c1}, model::Table{std::vector<std::uint8_t>(256)}, b.shape(c1), c1);
  const auto p1 = b.max_pool(t1, kHalve);
  const auto c2 = b.conv(p1, {.out_c = 8, .window = kSame3});
  const auto a2 = b.add(c2, p1);
  const auto c3 = b.conv(a2, {.out_c = 4});
  const auto plan = b.finish({c3});
  const auto placement = default_placement(plan);
  const auto operators = operators_of(plan);
  const Program program = make_program(plan, placement, operators, {.micro_batch = 2});
  ASSERT_EQ(program.steps.size(), 4U);  // the input and three layers
  EXPECT_EQ(program.steps[1].tail.size(), 2U);
  EXPECT_EQ(program.steps[1].units, 4U);  // rows of the pooling
  EXPECT_EQ(program.steps[1].unit_elements, 2U * 9 * 8);
  // The last unit takes the row that no window reads: it must be checked too.
  EXPECT_EQ(program.steps[1].head.at(4, 4), 81U);
  EXPECT_EQ(program.steps[2].tail.size(), 1U);
  EXPECT_EQ(program.steps[2].sends.size(), 1U);
}

TEST(Program, OverlappingWindowsRunAlone) {
  testing::PlanBuilder b;
  const auto x = b.input({9, 9, 3});
  const auto c1 = b.conv(x, {.out_c = 8, .window = kSame3});
  model::Window overlapping = kSame3;
  overlapping.stride_h = overlapping.stride_w = 2;
  const auto p1 = b.max_pool(c1, overlapping);
  const auto plan = b.finish({b.conv(p1, {.out_c = 4})});
  const auto operators = operators_of(plan);
  const Program program = make_program(plan, default_placement(plan), operators, {});
  EXPECT_EQ(steps_of_kind(program, StepKind::kOperator), 1U);
}

TEST(Program, LayersThatReadOneTensorShareItsUpload) {
  testing::PlanBuilder b;
  const auto x = b.input({5, 5, 3});
  const auto c1 = b.conv(x, {.out_c = 4});
  const auto c2 = b.conv(x, {.out_c = 6});
  const auto plan = b.finish({c1, c2});
  const auto operators = operators_of(plan);
  const Program program = make_program(plan, default_placement(plan), operators, {});
  ASSERT_EQ(program.uploads.size(), 1U);
  EXPECT_EQ(program.uploads[0].links, (std::vector<std::uint32_t>{0, 1}));
}

TEST(Program, BranchesAreTakenInTheOrderOfTheirAnswers) {
  // Two branches of two layers: both first layers are asked for before any answer is needed, so
  // both are taken before the second layers.
  testing::PlanBuilder b;
  const auto x = b.input({5, 5, 3});
  const auto a1 = b.conv(x, {.out_c = 4});
  const auto a2 = b.conv(a1, {.out_c = 4});
  const auto b1 = b.conv(x, {.out_c = 4});
  const auto b2 = b.conv(b1, {.out_c = 4});
  const auto plan = b.finish({b.add(a2, b2)});
  const auto operators = operators_of(plan);
  const Program program = make_program(plan, default_placement(plan), operators, {});
  ASSERT_EQ(program.links.size(), 4U);
  EXPECT_EQ(program.links[0].node, 0U);
  EXPECT_EQ(program.links[1].node, 2U);
  EXPECT_EQ(program.links[2].node, 1U);
  EXPECT_EQ(program.links[3].node, 3U);
}

TEST(Program, EveryNodeRunsOnceAndEveryWordIsCovered) {
  for (unsigned seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    const model::Plan plan = testing::random_plan(seed, 14);
    const auto operators = operators_of(plan);
    const Program program = make_program(plan, default_placement(plan), operators, {});
    std::vector<int> runs(plan.nodes.size(), 0);
    for (const Step& step : program.steps) {
      if (step.kind == StepKind::kInput) continue;
      ++runs[step.head.index];
      for (const Part& part : step.tail) {
        ++runs[part.index];
        EXPECT_EQ(part.total, operators[part.index]->units());
        EXPECT_GE(part.at(step.units, step.units), part.at(step.units - 1, step.units));
      }
      for (const Part& part : step.sends) {
        EXPECT_GT(part.per_unit, 0U);
        EXPECT_EQ(part.total, plan.tensors[program.uploads[part.index].tensor].shape.elements());
      }
    }
    for (std::size_t n = 0; n < plan.nodes.size(); ++n) {
      const bool nothing = std::holds_alternative<model::Reshape>(plan.nodes[n].op) ||
                           std::holds_alternative<model::Constant>(plan.nodes[n].op);
      EXPECT_EQ(runs[n], nothing ? 0 : 1) << n;
    }
  }
}

}  // namespace
}  // namespace slalom::runtime
