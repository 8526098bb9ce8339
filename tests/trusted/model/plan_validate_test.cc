// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "model/plan.h"
#include "support/plans.h"

namespace slalom::model {
namespace {

using testing::PlanBuilder;
using testing::smallest_field;

Linear& first_linear(Plan& plan) { return std::get<Linear>(plan.nodes.front().op); }

TEST(PlanValidate, SmallNetworkIsValid) {
  const auto status = validate(testing::small_network());
  EXPECT_TRUE(status.ok()) << status.error().message;
}

struct Breach {
  const char* name;
  std::function<void(Plan&)> apply;
};

class PlanBreach : public ::testing::TestWithParam<Breach> {};

TEST_P(PlanBreach, IsRefused) {
  Plan plan = testing::small_network();
  GetParam().apply(plan);
  const auto status = validate(plan);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Errc::kMalformed);
}

const Breach kBreaches[] = {
    {"scale_nan", [](Plan& p) { p.tensors[1].scale = std::numeric_limits<float>::quiet_NaN(); }},
    {"scale_negative", [](Plan& p) { p.tensors[1].scale = -1; }},
    {"zero_point", [](Plan& p) { p.tensors[0].zero_point = 256; }},
    {"shape_zero", [](Plan& p) { p.tensors[0].shape.h = 0; }},
    {"shape_huge",
     [](Plan& p) {
       p.tensors[0].shape = {1U << 20, 1U << 20, 1};
     }},
    {"weight_minus_128", [](Plan& p) { first_linear(p).stages[0].weights[0] = -128; }},
    {"weights_missing", [](Plan& p) { first_linear(p).stages[0].weights.pop_back(); }},
    {"bias_missing", [](Plan& p) { first_linear(p).bias.pop_back(); }},
    {"bias_overflow",
     [](Plan& p) { first_linear(p).bias[0] = std::numeric_limits<std::int32_t>::max(); }},
    {"bias_overflow_negative",
     [](Plan& p) { first_linear(p).bias[0] = std::numeric_limits<std::int32_t>::min(); }},
    {"multiplier_count", [](Plan& p) { first_linear(p).requant.multiplier.resize(2); }},
    {"multiplier_infinite",
     [](Plan& p) {
       first_linear(p).requant.multiplier[0] = std::numeric_limits<float>::infinity();
     }},
    {"multiplier_zero", [](Plan& p) { first_linear(p).requant.multiplier[0] = 0; }},
    {"clamp_low", [](Plan& p) { first_linear(p).requant.lo = -1; }},
    {"clamp_crossed",
     [](Plan& p) {
       first_linear(p).requant.lo = 200;
       first_linear(p).requant.hi = 100;
     }},
    {"table_short", [](Plan& p) { first_linear(p).requant.table.resize(255); }},
    {"zero_point_disagrees", [](Plan& p) { first_linear(p).requant.zero_point += 1; }},
    {"field_zero", [](Plan& p) { first_linear(p).field = field::Field{0}; }},
    {"field_unknown", [](Plan& p) { first_linear(p).field = field::Field{5}; }},
    {"groups", [](Plan& p) { first_linear(p).stages[0].conv.groups = 2; }},
    {"groups_zero", [](Plan& p) { first_linear(p).stages[0].conv.groups = 0; }},
    {"stride_zero", [](Plan& p) { first_linear(p).stages[0].conv.window.stride_h = 0; }},
    {"padding_huge", [](Plan& p) { first_linear(p).stages[0].conv.window.pad_top = 3; }},
    {"geometry", [](Plan& p) { first_linear(p).stages[0].conv.window.dilation_w = 2; }},
    {"no_stage", [](Plan& p) { first_linear(p).stages.clear(); }},
    {"three_stages",
     [](Plan& p) {
       auto& s = first_linear(p).stages;
       s.push_back(s[0]);
       s.push_back(s[0]);
     }},
    {"reads_later", [](Plan& p) { p.nodes[0].inputs[0] = p.nodes.back().output; }},
    {"writes_twice", [](Plan& p) { p.nodes[1].output = p.nodes[0].output; }},
    {"reads_unknown", [](Plan& p) { p.nodes[0].inputs[0] = 1000; }},
    {"no_output", [](Plan& p) { p.outputs.clear(); }},
    {"output_unknown", [](Plan& p) { p.outputs[0].tensor = 1000; }},
    {"unwritten", [](Plan& p) { p.tensors.push_back(p.tensors[0]); }},
    {"labels", [](Plan& p) { p.labels.resize(3); }},
    {"integers_in_the_middle",
     [](Plan& p) {
       p.tensors[1].dtype = Dtype::kI32;
       p.tensors[1].zero_point = 0;
     }},
};
INSTANTIATE_TEST_SUITE_P(Rules, PlanBreach, ::testing::ValuesIn(kBreaches),
                         [](const auto& breach) { return breach.param.name; });

// The field bound is tight: the largest weights that fit are accepted, one more is not.
TEST(PlanValidate, FieldBoundIsTight) {
  PlanBuilder b;
  const auto x = b.input({1, 1, 517});
  const auto y = b.dense(x, 1);
  Plan plan = b.finish({y});
  auto& linear = first_linear(plan);
  linear.field = field::Field::kP24;
  // 128 * sum|w| <= (p - 1) / 2 = 8,388,606 means sum|w| <= 65,535 (65,535 * 128 = 8,388,480).
  auto& w = linear.stages[0].weights;
  std::fill(w.begin(), w.end(), std::int8_t{-127});
  w[0] = -3;  // 516 * 127 + 3 = 65,535
  EXPECT_EQ(sum_bound(linear)[0], 8'388'480);
  EXPECT_TRUE(validate(plan).ok());
  EXPECT_EQ(smallest_field(linear), field::Field::kP24);
  w[0] = -4;
  EXPECT_FALSE(validate(plan).ok());
  EXPECT_EQ(smallest_field(linear), field::Field::kP31);
}

TEST(PlanValidate, SharedInputNeedsOneField) {
  PlanBuilder b;
  const auto x = b.input({4, 4, 8});
  const auto y = b.conv(x, {.out_c = 4});
  const auto z = b.conv(x, {.out_c = 4});
  Plan plan = b.finish({y, z});
  ASSERT_TRUE(validate(plan).ok());
  first_linear(plan).field = field::Field::kP31;
  EXPECT_FALSE(validate(plan).ok());
}

TEST(PlanValidate, SeparableBoundCountsBothStages) {
  PlanBuilder b;
  const auto x = b.input({4, 4, 64});
  const auto y = b.separable(x, {.out_c = 8, .window = {.kernel_h = 3, .kernel_w = 3}});
  Plan plan = b.finish({y});
  ASSERT_TRUE(validate(plan).ok());
  auto& stages = first_linear(plan).stages;
  for (auto& w : stages[0].weights) w = 127;
  for (auto& w : stages[1].weights) w = 127;
  // 64 * 127 * 9 * 127 * 128 > 2^31: nothing may accept it.
  EXPECT_EQ(sum_bound(first_linear(plan))[0], 64LL * 127 * 9 * 127 * 128);
  EXPECT_FALSE(validate(plan).ok());
}

// A sum between the stages that no output depends on may not leave 32 bits either.
TEST(PlanValidate, SeparableInnerSumsStayIn32Bits) {
  for (const std::uint32_t side : {360U, 365U}) {  // 360^2 * 127 * 128 < 2^31 < 365^2 * 127 * 128
    PlanBuilder b;
    const auto x = b.input({side, side, 2});
    const auto y = b.separable(x, {.out_c = 1, .window = {.kernel_h = side, .kernel_w = side}});
    Plan plan = b.finish({y});
    auto& linear = first_linear(plan);
    for (auto& w : linear.stages[0].weights) w = 127;
    for (auto& w : linear.stages[1].weights) w = 0;
    linear.field = smallest_field(linear);
    EXPECT_EQ(validate(plan).ok(), side == 360);
  }
}

TEST(PlanValidate, PoolingWindowsMustTouchTheInput) {
  PlanBuilder b;
  const auto x = b.input({1, 8, 2});
  const Window w{.kernel_h = 2, .dilation_h = 4, .pad_top = 2, .pad_bottom = 2};
  const auto y = b.max_pool(x, w);
  EXPECT_FALSE(validate(b.finish({y})).ok());
}

}  // namespace
}  // namespace slalom::model
