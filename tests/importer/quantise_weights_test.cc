// SPDX-License-Identifier: Apache-2.0
// Bounds: what is proven holds for the worst input and is reached by it.
#include "importer/quant/weights.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <random>

#include "importer/graph_maker.h"
#include "importer/quantise.h"
#include "importer/reference.h"

namespace slalom::importer {
namespace {

using testing::GraphMaker;
using testing::normal_samples;

NetLinear layer(const model::Conv& conv, std::vector<float> weights, std::vector<float> bias = {}) {
  NetLinear linear;
  linear.stages.push_back({.conv = conv, .weights = [weights] { return weights; }, .bias = bias});
  return linear;
}
NetLinear dense(std::uint32_t inputs, std::vector<float> weights, std::vector<float> bias = {}) {
  const auto outputs = static_cast<std::uint32_t>(weights.size() / inputs);
  return layer({{1, 1, inputs}, {1, 1, outputs}, {}, 1}, std::move(weights), std::move(bias));
}
std::vector<float> normal(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> draw;
  std::vector<float> values(count);
  for (float& v : values) v = draw(random);
  return values;
}
model::Linear plan_layer(const IntegerLinear& integer) {
  model::Linear linear;
  linear.stages = integer.stages;
  linear.bias = integer.bias;
  linear.field = integer.field;
  return linear;
}

// worst_input makes output channel o as large (sign 1) or as small (sign -1) as it can be.
std::vector<std::int32_t> worst_input(const model::Linear& linear, std::size_t o, int sign) {
  const model::Conv& first = linear.stages.front().conv;
  const model::Conv& last = linear.stages.back().conv;
  std::vector<std::int32_t> input(first.in.elements(), 0);
  for (std::size_t c = 0; c < first.in.c; ++c) {
    for (std::size_t tap = 0; tap < first.taps(); ++tap) {
      // One weight for each input element: the kernel covers the whole input once.
      std::int64_t w = 0;
      if (linear.stages.size() == 2) {
        w = linear.stages[0].weights[c * first.taps() + tap] *
            linear.stages[1].weights[o * last.in.c + c];
      } else {
        w = linear.stages[0].weights[(o * first.taps() + tap) * first.in.c + c];
      }
      input[tap * first.in.c + c] = w * sign > 0 ? 255 : 0;
    }
  }
  return input;
}

void expect_bounds_are_reached(const model::Linear& linear) {
  const std::vector<std::int64_t> bounds = model::sum_bound(linear);
  for (std::size_t o = 0; o < bounds.size(); ++o) {
    std::int64_t largest = 0;
    for (const int sign : {1, -1}) {
      const auto sums = linear_sums(linear, worst_input(linear, o, sign), 128);
      for (std::size_t other = 0; other < bounds.size(); ++other) {
        EXPECT_LE(std::abs(sums[other]), bounds[other]);
      }
      largest = std::max(largest, std::abs(sums[o]));
    }
    EXPECT_EQ(largest, bounds[o]) << "channel " << o;
  }
}

TEST(Bounds, AreReachedByTheWorstInput) {
  const model::Conv conv{{3, 3, 40}, {1, 1, 6}, {.kernel_h = 3, .kernel_w = 3}, 1};
  const NetLinear real = layer(conv, normal(conv.weights(), 1), normal(6, 2));
  const LinearContext context{.in = {0.1F, 77}, .channel_mean = {}};
  const auto field = wanted_field(real, context);
  ASSERT_EQ(field, field::Field::kP24);
  const IntegerLinear integer = make_integer(real, context, field);
  const model::Linear linear = plan_layer(integer);
  expect_bounds_are_reached(linear);
  const auto bounds = model::sum_bound(linear);
  EXPECT_EQ(integer.bound, *std::max_element(bounds.begin(), bounds.end()));
}

TEST(Bounds, OfASeparablePairAreReached) {
  NetLinear real;
  const model::Conv depthwise{{3, 3, 30}, {1, 1, 30}, {.kernel_h = 3, .kernel_w = 3}, 30};
  const model::Conv point{{1, 1, 30}, {1, 1, 5}, {}, 1};
  real.stages.push_back({.conv = depthwise, .weights = [] { return normal(270, 3); }, .bias = {}});
  real.stages.push_back({.conv = point, .weights = [] { return normal(150, 4); }, .bias = {}});
  const LinearContext context{.in = {0.1F, 3}, .channel_mean = {}};
  const auto field = wanted_field(real, context);
  ASSERT_TRUE(field.has_value());
  const model::Linear linear = plan_layer(make_integer(real, context, field));
  expect_bounds_are_reached(linear);
}

// With equal weights all codes are 127, and the bound of K terms is K * 127 * 128.
struct FieldCase {
  std::uint32_t terms;
  std::optional<field::Field> field;
  double loss;  // expected, from the bound
};
class Fields : public ::testing::TestWithParam<FieldCase> {};

TEST_P(Fields, FollowTheRule) {
  const FieldCase& one = GetParam();
  const NetLinear real = dense(one.terms, std::vector<float>(one.terms, 0.25F));
  const LinearContext context{.in = {0.1F, 128}, .channel_mean = {}};
  const auto field = wanted_field(real, context);
  ASSERT_EQ(field, one.field);
  const IntegerLinear integer = make_integer(real, context, field);
  EXPECT_GE(integer.scale_loss, one.loss - 1e-9);
  EXPECT_LE(integer.scale_loss, one.loss + 0.01);
  EXPECT_EQ(integer.channels_scaled, one.loss > 0.0 ? 1U : 0U);
  const model::Linear linear = plan_layer(integer);
  const std::int64_t bound = model::sum_bound(linear)[0];
  EXPECT_LE(bound + std::abs(std::int64_t{integer.bias[0]}), (std::int64_t{1} << 31) - 1);
  if (field) {
    EXPECT_LE(bound, (field::modulus(*field) - 1) / 2);
  }
}

constexpr double loss_of(double terms, double limit) { return 1.0 - limit / (terms * 127 * 128); }
constexpr double kLimit24 = (16777213 - 1) / 2.0;
constexpr double kLimit31 = (2147483647.0 - 1) / 2.0;
INSTANTIATE_TEST_SUITE_P(
    Sizes, Fields,
    ::testing::Values(FieldCase{100, field::Field::kP24, 0.0},
                      FieldCase{516, field::Field::kP24, 0.0},  // the last that fits
                      FieldCase{550, field::Field::kP24, loss_of(550, kLimit24)},
                      FieldCase{589, field::Field::kP24, loss_of(589, kLimit24)},
                      FieldCase{590, field::Field::kP31, 0.0},  // 12.5% would not be enough
                      FieldCase{60000, field::Field::kP31, 0.0},
                      FieldCase{100000, field::Field::kP31, loss_of(100000, kLimit31)},
                      FieldCase{260000, field::Field::kP31, loss_of(260000, kLimit31)},
                      FieldCase{270000, std::nullopt,
                                loss_of(270000, 2147483647.0)}));  // two bits are not enough

TEST(IntegerBias, HoldsBiasAndZeroPoint) {
  // y = 2 x0 - x1 + 3 with x = 0.5 (q - 10): the largest weight becomes 127.
  const NetLinear real = dense(2, {2.0F, -1.0F}, {3.0F});
  const IntegerLinear integer = make_integer(real, {{0.5F, 10}, {}}, field::Field::kP24);
  ASSERT_EQ(integer.stages[0].weights, (std::vector<std::int8_t>{127, -64}));
  const double unit = 0.5 * 2.0 / 127.0;
  EXPECT_DOUBLE_EQ(integer.unit[0], 0.5 * (static_cast<double>(2.0F) / 127.0));
  EXPECT_EQ(integer.bias[0], std::lround(3.0 / unit) - (10 - 128) * (127 - 64));
}

TEST(IntegerBias, ACorrectionUndoesTheMeanErrorOfRounding) {
  const std::uint32_t terms = 64;
  const std::vector<float> weights = normal(terms, 10);
  const NetLinear real = dense(terms, weights);
  std::vector<double> mean(terms);
  for (std::size_t i = 0; i < terms; ++i) mean[i] = 1.0 + 0.1 * static_cast<double>(i % 7);
  const Quant in{0.05F, 20};
  const auto output_of_mean = [&](const IntegerLinear& integer) {
    double sum = integer.bias[0];
    for (std::size_t i = 0; i < terms; ++i) {
      sum += integer.stages[0].weights[i] * (mean[i] / in.scale + in.zero_point - 128);
    }
    return sum * integer.unit[0];
  };
  double exact = 0.0;
  for (std::size_t i = 0; i < terms; ++i) exact += double{weights[i]} * mean[i];
  const IntegerLinear plain = make_integer(real, {in, {}}, field::Field::kP24);
  const IntegerLinear corrected = make_integer(real, {in, mean}, field::Field::kP24);
  EXPECT_GT(std::fabs(output_of_mean(plain) - exact), 2 * plain.unit[0]);
  EXPECT_LE(std::fabs(output_of_mean(corrected) - exact), 0.51 * corrected.unit[0]);
}

TEST(IntegerBias, AHugeBiasBesideTinyWeightsFits) {
  const NetLinear real = dense(2, {1e-9F, -1e-9F, 1.0F, 0.5F, 0.0F, 0.0F}, {1e3F, 1.0F, 0.0F});
  const IntegerLinear integer = make_integer(real, {{0.1F, 0}, {}}, field::Field::kP24);
  EXPECT_NEAR(integer.bias[0] * integer.unit[0], 1e3, 1e-2);
  EXPECT_GT(integer.unit[2], 0.0);
}

TEST(SharedInput, LayersHaveTheLargestFieldOfThem) {
  GraphMaker g;
  const ValueId x = g.input({1, 128, 5, 5});
  const ValueId small = g.point(x, 4);
  const ValueId large = g.conv(x, {.out = 4, .kernel = 5, .pads = {2, 2, 2, 2}});
  const auto result = quantise(g.finish({small, large}), normal_samples(2), {});
  ASSERT_TRUE(result.ok()) << result.error().message();
  for (const NodeReport& node : result.value().report.nodes) {
    EXPECT_EQ(node.field, field::Field::kP31);
    EXPECT_EQ(node.scale_loss, 0.0);
  }
}

TEST(Separable, PairsBeyondP31ComeApart) {
  GraphMaker g;
  const ValueId x = g.input({1, 512, 2, 2});
  const Shape shape = {512, 1, 3, 3};
  // Equal weights: sums of 9 * 512 products of 127 * 127 with codes leave two bits and more.
  const ValueId ones = g.constant(shape, std::vector<float>(512 * 9, 1.0F));
  const ValueId depthwise = g.node("Conv", {x, ones},
                                   {{"kernel_shape", std::vector<std::int64_t>{3, 3}},
                                    {"pads", std::vector<std::int64_t>{1, 1, 1, 1}},
                                    {"group", std::int64_t{512}}});
  const ValueId points = g.constant(Shape{2, 512, 1, 1}, std::vector<float>(1024, 1.0F));
  const ValueId y =
      g.node("Conv", {depthwise, points}, {{"kernel_shape", std::vector<std::int64_t>{1, 1}}});
  const auto result = quantise(g.finish({y}), normal_samples(2), {});
  ASSERT_TRUE(result.ok()) << result.error().message();
  const auto& nodes = result.value().plan.nodes;
  ASSERT_EQ(nodes.size(), 2U);
  const auto& first = std::get<model::Linear>(nodes[0].op);
  EXPECT_EQ(first.stages.size(), 1U);
  EXPECT_FALSE(first.field.has_value());
  EXPECT_TRUE(std::get<model::Linear>(nodes[1].op).field.has_value());
  EXPECT_FALSE(result.value().report.notes.empty());
}

}  // namespace
}  // namespace slalom::importer
