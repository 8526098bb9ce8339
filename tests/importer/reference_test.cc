// SPDX-License-Identifier: Apache-2.0
#include "importer/reference.h"

#include <gtest/gtest.h>

#include <numeric>

#include "support/plans.h"

namespace slalom::importer {
namespace {

using model::Dtype;
using model::TensorInfo;

TensorInfo u8(model::Shape shape, float scale, std::int32_t zero_point) {
  return {"t", shape, Dtype::kU8, scale, zero_point};
}

// one_op is a plan of one node; inputs are u8 tensors.
model::Plan one_op(std::vector<TensorInfo> inputs, model::Op op, TensorInfo output) {
  model::Plan plan;
  plan.name = "one";
  model::Node node{.name = "n", .inputs = {}, .output = 0, .op = std::move(op)};
  for (TensorInfo& info : inputs) {
    const auto id = static_cast<model::TensorId>(plan.tensors.size());
    plan.tensors.push_back(std::move(info));
    plan.inputs.push_back(id);
    node.inputs.push_back(id);
  }
  node.output = static_cast<model::TensorId>(plan.tensors.size());
  plan.tensors.push_back(std::move(output));
  plan.outputs.push_back({node.output, model::Final::kNone});
  plan.nodes.push_back(std::move(node));
  EXPECT_TRUE(model::validate(plan).ok());
  return plan;
}

TEST(Reference, RoundsHalvesToEvenAndClamps) {
  // Scale 1/2 to 1: v = 0.5 (q - zp).
  const auto plan =
      one_op({u8({1, 1, 8}, 0.5F, 4), u8({1, 1, 1}, 1.0F, 0)},
             model::Add{.multiplier_a = 0.5F, .multiplier_b = 1.0F, .lo = 9, .hi = 13},
             u8({1, 1, 8}, 1.0F, 10));
  const std::vector<Codes> in = {{0, 3, 4, 5, 6, 7, 9, 11}, {0}};
  // v = -2, -0.5, 0, 0.5, 1, 1.5, 2.5, 3.5 -> -2, 0, 0, 0, 1, 2, 2, 4 -> + 10, clamped to 9..13
  EXPECT_EQ(run_reference(plan, in)[0], (Codes{9, 10, 10, 10, 11, 12, 12, 13}));
}

TEST(Reference, ConvolutionPadsWithTheZeroPoint) {
  // A 3x3 convolution of ones over a 2x2 image: each output sees the whole image and five padding
  // taps, whose code is zero_point - 128.
  model::Linear op;
  op.stages.push_back({{{2, 2, 1},
                        {2, 2, 1},
                        {.kernel_h = 3,
                         .kernel_w = 3,
                         .pad_top = 1,
                         .pad_left = 1,
                         .pad_bottom = 1,
                         .pad_right = 1},
                        1},
                       std::vector<std::int8_t>(9, 1)});
  op.bias = {0};
  op.requant = {.multiplier = {1.0F}, .zero_point = 0, .lo = 0, .hi = 255, .table = {}};
  const std::vector<std::int64_t> sums = linear_sums(op, std::vector<std::int32_t>{1, 2, 3, 4}, 7);
  EXPECT_EQ(sums, std::vector<std::int64_t>(4, (1 + 2 + 3 + 4 + 5 * 7) - 9 * 128));
}

TEST(Reference, SeparablePairIsExactBetweenItsStages) {
  testing::PlanBuilder b;
  const auto x = b.input({5, 5, 4}, 9);
  b.separable(x,
              {.out_c = 6, .window = {.kernel_h = 3, .kernel_w = 3, .pad_top = 1, .pad_left = 1}});
  const auto& linear = std::get<model::Linear>(b.plan().nodes[0].op);
  std::vector<std::int32_t> input(100);
  std::iota(input.begin(), input.end(), 20);
  const model::Linear first{.stages = {linear.stages[0]}, .bias = {}, .field = {}, .requant = {}};
  const auto inner = linear_sums(first, input, 9);
  const auto outer = linear_sums(linear, input, 9);
  const auto& out = linear.out();
  for (std::size_t i = 0; i < out.positions(); ++i) {
    for (std::size_t o = 0; o < out.c; ++o) {
      std::int64_t sum = 0;
      for (std::size_t c = 0; c < 4; ++c) {
        sum += inner[i * 4 + c] * linear.stages[1].weights[o * 4 + c];
      }
      EXPECT_EQ(outer[i * out.c + o], sum);
    }
  }
}

TEST(Reference, BatchEqualsSingleImages) {
  const model::Plan plan = testing::small_network();
  std::vector<std::vector<Codes>> images;
  for (std::int32_t i = 0; i < 5; ++i) {
    Codes codes(12 * 12 * 3);
    std::int32_t v = i;
    for (auto& q : codes) q = (v = (v * 75 + 74) % 65537) % (256 >> i);
    images.push_back({codes});
  }
  const auto batch = run_reference_batch(plan, images, 3);
  for (std::size_t i = 0; i < images.size(); ++i) {
    EXPECT_EQ(batch[i], run_reference(plan, images[i]));
  }
  EXPECT_NE(batch[0], batch[1]);
}

TEST(Reference, EncodesAndDecodesReals) {
  const TensorInfo info = u8({1, 1, 5}, 0.25F, 3);
  const std::vector<float> reals = {-100.0F, -0.75F, 0.0F, 0.375F, 1000.0F};
  EXPECT_EQ(encode_reals(info, reals), (Codes{0, 0, 3, 5, 255}));
  EXPECT_EQ(decode_reals(info, Codes{0, 3, 5}), (std::vector<float>{-0.75F, 0.0F, 0.5F}));
}

}  // namespace
}  // namespace slalom::importer
