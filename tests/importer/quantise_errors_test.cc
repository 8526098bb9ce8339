// SPDX-License-Identifier: Apache-2.0
// What a plan cannot express is refused with one error that names node, operator and operator set;
// networks that were quantised already keep their integers.
#include <gtest/gtest.h>

#include <string>

#include "importer/graph_maker.h"
#include "importer/quantise.h"
#include "importer/reference.h"

namespace slalom::importer {
namespace {

using testing::GraphMaker;
using testing::normal_samples;
using Ints = std::vector<std::int64_t>;

Error error_of(const Graph& graph, const SampleSource& samples,
               const QuantiseOptions& options = {}) {
  const auto result = quantise(graph, samples, options);
  if (!result.ok()) return result.error();
  ADD_FAILURE() << "was not refused";
  return {};
}

void expect_refused(GraphMaker& g, ValueId out, const char* op, const char* why) {
  const Error error = error_of(g.finish({out}), normal_samples(2));
  EXPECT_EQ(error.op, op);
  EXPECT_EQ(error.opset, 17);
  EXPECT_FALSE(error.node.empty());
  EXPECT_NE(error.what.find(why), std::string::npos) << error.message();
}

TEST(Refusals, NameTheNode) {
  {
    GraphMaker g;
    const ValueId x = g.input({1, 4, 5});
    const ValueId y = g.node("Transpose", {x}, {{"perm", Ints{0, 2, 1}}});
    expect_refused(g, g.node("MatMul", {x, y}), "MatMul", "constant second matrix");
  }
  {
    GraphMaker g;
    const ValueId x = g.input({1, 4, 5, 5});
    expect_refused(g, g.node("Div", {x, g.conv(x, {.out = 4})}), "Div", "not constant");
  }
  {
    GraphMaker g;
    const ValueId x = g.input({1, 4, 5, 5});
    const ValueId y = g.node("ConvTranspose", {x, g.random({4, 4, 3, 3})},
                             {{"kernel_shape", Ints{3, 3}}, {"strides", Ints{2, 2}}});
    expect_refused(g, y, "ConvTranspose", "stride = kernel");
  }
  {
    GraphMaker g;
    const ValueId x = g.input({1, 4, 5, 5});
    const ValueId y =
        g.node("Pad", {x, g.ints({0, 0, 2000, 0, 0, 0, 0, 0})}, {{"mode", std::string("edge")}});
    expect_refused(g, y, "Pad", "more than 1024 rows");
  }
  {
    GraphMaker g;
    const ValueId x = g.input({1, 4, 5, 5});
    expect_refused(g, g.node("LRN", {x}, {{"size", std::int64_t{3}}, {"beta", 0.6F}}), "LRN",
                   "beta");
  }
  {
    GraphMaker g;
    const ValueId x = g.input({1, 4, 5, 5, 5});
    const ValueId y = g.node("MaxPool", {x}, {{"kernel_shape", Ints{2, 2, 2}}});
    expect_refused(g, y, "MaxPool", "spatial dimensions");
  }
  {
    GraphMaker g;
    const ValueId x = g.input({1, 4, 5, 5});
    const ValueId w = g.random({4, 4, 1, 1});
    g.graph().initialisers.at(w).view<float>()[3] = std::nanf("");
    const ValueId y = g.node("Conv", {x, w}, {{"kernel_shape", Ints{1, 1}}});
    const Error error = error_of(g.finish({y}), normal_samples(1));
    EXPECT_NE(error.what.find("infinite or not a number"), std::string::npos);
  }
}

TEST(Refusals, OfSamples) {
  GraphMaker g;
  const ValueId x = g.input({1, 4, 5, 5});
  const Graph graph = g.finish({g.conv(x, {})});
  EXPECT_NE(error_of(graph, {}).what.find("calibration"), std::string::npos);
  const SampleSource wrong = {
      .count = 1, .get = [](std::span<const InputInfo>, std::size_t) -> ImportResult<Sample> {
        return Sample{Tensor(DType::kFloat32, {1, 4, 5, 6})};
      }};
  EXPECT_NE(error_of(graph, wrong).what.find("[1,4,5,6]"), std::string::npos);
  const SampleSource failing = {
      .count = 1, .get = [](std::span<const InputInfo>, std::size_t) -> ImportResult<Sample> {
        return Error{.what = "no such file", .node = {}, .op = {}};
      }};
  EXPECT_EQ(error_of(graph, failing).what, "no such file");
  QuantiseOptions options;
  options.percentile = 20;
  EXPECT_NE(error_of(graph, normal_samples(1), options).what.find("percentile"), std::string::npos);
}

// quantised_conv is Quantize, Dequantize, Conv with integer weights, Quantize, Dequantize.
struct Parts {
  std::vector<std::int8_t> weights = {10, -20, 127, -127, 5, 0, 1, 2};
  std::int8_t weight_zero = 0;
  DType activations = DType::kUint8;
};
Graph quantised_conv(const Parts& parts) {
  GraphMaker g;
  const auto zero = [&](int value) {
    return parts.activations == DType::kUint8
               ? g.constant(Shape{}, std::vector<std::uint8_t>{static_cast<std::uint8_t>(value)})
               : g.constant(Shape{},
                            std::vector<std::int8_t>{static_cast<std::int8_t>(value - 128)});
  };
  const auto round_trip = [&](ValueId x, float scale, int zero_point) {
    const ValueId s = g.scalar(scale);
    const ValueId z = zero(zero_point);
    return g.node("DequantizeLinear", {g.node("QuantizeLinear", {x, s, z}), s, z});
  };
  const ValueId x = round_trip(g.input({1, 4, 3, 3}), 0.04F, 100);
  const ValueId w = g.node("DequantizeLinear",
                           {g.constant(Shape{2, 4, 1, 1}, parts.weights),
                            g.constant(Shape{2}, std::vector<float>{0.01F, 0.02F}),
                            g.constant(Shape{2}, std::vector<std::int8_t>(2, parts.weight_zero))},
                           {{"axis", std::int64_t{0}}});
  const ValueId b = g.node("DequantizeLinear",
                           {g.constant(Shape{2}, std::vector<std::int32_t>{500, -300}),
                            g.constant(Shape{2}, std::vector<float>{0.04F * 0.01F, 0.04F * 0.02F}),
                            g.constant(Shape{2}, std::vector<std::int32_t>{0, 0})},
                           {{"axis", std::int64_t{0}}});
  const ValueId y = g.node("Relu", {g.node("Conv", {x, w, b}, {{"kernel_shape", Ints{1, 1}}})});
  return g.finish({round_trip(y, 0.05F, 0)});
}

TEST(QuantisedNetworks, KeepTheirIntegers) {
  for (const DType type : {DType::kUint8, DType::kInt8}) {
    Parts parts;
    parts.activations = type;
    const auto result = quantise(quantised_conv(parts), {}, {});
    ASSERT_TRUE(result.ok()) << result.error().message();
    const model::Plan& plan = result.value().plan;
    ASSERT_EQ(plan.nodes.size(), 1U);
    const auto& linear = std::get<model::Linear>(plan.nodes[0].op);
    EXPECT_EQ(linear.stages[0].weights, parts.weights);
    const std::int32_t sum0 = 10 - 20 + 127 - 127;
    const std::int32_t sum1 = 5 + 0 + 1 + 2;
    EXPECT_EQ(linear.bias, (std::vector<std::int32_t>{500 + 28 * sum0, -300 + 28 * sum1}));
    EXPECT_EQ(linear.requant.multiplier[0], 0.04F * 0.01F / 0.05F);
    const model::TensorInfo& in = plan.tensors[plan.inputs[0]];
    EXPECT_EQ(in.scale, 0.04F);
    EXPECT_EQ(in.zero_point, 100);
    const model::TensorInfo& out = plan.tensors[plan.outputs[0].tensor];
    EXPECT_EQ(out.scale, 0.05F);
    EXPECT_EQ(out.zero_point, 0);
    EXPECT_EQ(result.value().report.calibrator, "as in the file");
  }
}

TEST(QuantisedNetworks, WithAsymmetricWeightsAreRefused) {
  Parts parts;
  parts.weight_zero = 3;  // -127 - 3 does not fit
  const Error error = error_of(quantised_conv(parts), {});
  EXPECT_EQ(error.op, "Conv");
  EXPECT_NE(error.what.find("asymmetric"), std::string::npos);
}

TEST(QuantisedNetworks, SaturateAWeightOfMinus128AndSaySo) {
  Parts parts;
  parts.weights[3] = -128;
  const auto result = quantise(quantised_conv(parts), {}, {});
  ASSERT_TRUE(result.ok()) << result.error().message();
  EXPECT_EQ(std::get<model::Linear>(result.value().plan.nodes[0].op).stages[0].weights[3], -127);
  ASSERT_EQ(result.value().report.notes.size(), 1U);
  EXPECT_NE(result.value().report.notes[0].find("-128"), std::string::npos);
}

TEST(Scores, AreIntegersOfAFineScale) {
  GraphMaker g;
  const ValueId x = g.input({1, 30});
  const ValueId y = g.node("Softmax", {g.gemm(x, 7)}, {{"axis", std::int64_t{1}}});
  const auto result = quantise(g.finish({y}), normal_samples(4), {});
  ASSERT_TRUE(result.ok()) << result.error().message();
  const model::Plan& plan = result.value().plan;
  EXPECT_EQ(plan.outputs[0].function, model::Final::kSoftmax);
  const model::TensorInfo& scores = plan.tensors[plan.outputs[0].tensor];
  EXPECT_EQ(scores.dtype, model::Dtype::kI32);
  EXPECT_LT(scores.scale, 1e-4F);
  EXPECT_EQ(plan.nodes.size(), 1U);
}

TEST(Determinism, OneNetworkAndOneSetOfSamplesGiveOnePlan) {
  GraphMaker g;
  const ValueId x = g.node("Relu", {g.conv(g.input({1, 3, 12, 12}), {})});
  const Graph graph = g.finish({g.node("Relu", {g.depthwise(x)})});
  QuantiseOptions one;
  one.threads = 1;
  QuantiseOptions many;
  many.threads = 5;
  EXPECT_EQ(model::encode_plan(quantise(graph, normal_samples(3), one).value().plan),
            model::encode_plan(quantise(graph, normal_samples(3), many).value().plan));
}

}  // namespace
}  // namespace slalom::importer
