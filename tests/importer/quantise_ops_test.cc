// SPDX-License-Identifier: Apache-2.0
// Every operator that a plan can express, quantised and compared with the float interpreter.
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "importer/graph_maker.h"
#include "importer/interpreter.h"
#include "importer/quantise.h"
#include "importer/reference.h"

namespace slalom::importer {
namespace {

using testing::GraphMaker;
using testing::normal_samples;

constexpr std::int64_t kOne = 1;
using Ints = std::vector<std::int64_t>;

struct Case {
  const char* name;
  ValueId (*build)(GraphMaker& g);
  double least_snr_db;
};

GraphMaker::Attributes window(std::int64_t kernel, std::int64_t stride, std::int64_t pad) {
  return {{"kernel_shape", Ints{kernel, kernel}},
          {"strides", Ints{stride, stride}},
          {"pads", Ints{pad, pad, pad, pad}}};
}

ValueId unary(GraphMaker& g, const char* op, GraphMaker::Attributes attributes = {}) {
  return g.node(op, {g.conv(g.input({1, 6, 9, 7}), {})}, std::move(attributes));
}

ValueId image(GraphMaker& g) { return g.input({1, 6, 9, 7}); }

// The quantised input alone has about 41 dB (deviation 1, 8 sigma in 256 steps).
const Case kCases[] = {
    {"Conv", [](GraphMaker& g) { return g.conv(image(g), {}); }, 35},
    {"ConvStride", [](GraphMaker& g) { return g.conv(image(g), {.stride = 2}); }, 35},
    {"ConvAsymmetricPads",
     [](GraphMaker& g) {
       return g.conv(image(g), {.stride = 2, .pads = {0, 1, 2, 0}});
     },
     35},
    {"ConvDilated",
     [](GraphMaker& g) {
       return g.conv(image(g), {.dilation = 2, .pads = {2, 2, 2, 2}});
     },
     35},
    {"ConvWidePads",
     [](GraphMaker& g) {
       return g.conv(image(g), {.kernel = 1, .pads = {1, 2, 0, 1}});
     },
     35},
    {"ConvGroups", [](GraphMaker& g) { return g.conv(image(g), {.group = 2}); }, 35},
    {"ConvDepthwise", [](GraphMaker& g) { return g.depthwise(image(g)); }, 35},
    {"ConvDepthwiseMultiplier",
     [](GraphMaker& g) { return g.conv(image(g), {.out = 12, .group = 6}); }, 35},
    {"ConvOneDimension",
     [](GraphMaker& g) {
       const ValueId x = g.input({1, 5, 20});
       return g.node("Conv", {x, g.random({4, 5, 3}, 0.3F), g.random({4})},
                     {{"kernel_shape", Ints{3}},
                      {"strides", Ints{2}},
                      {"dilations", Ints{1}},
                      {"pads", Ints{1, 1}},
                      {"group", kOne}});
     },
     35},
    {"ConvTranspose",
     [](GraphMaker& g) {
       return g.node(
           "Relu", {g.node("ConvTranspose", {image(g), g.random({6, 4, 2, 3}, 0.4F), g.random({4})},
                           {{"kernel_shape", Ints{2, 3}},
                            {"strides", Ints{2, 3}},
                            {"dilations", Ints{1, 1}},
                            {"pads", Ints{0, 0, 0, 0}},
                            {"group", kOne}})});
     },
     33},
    {"Separable", [](GraphMaker& g) { return g.point(g.depthwise(image(g)), 9); }, 33},
    {"SeparableChain",
     [](GraphMaker& g) {
       ValueId x = g.node("Relu", {g.point(g.depthwise(image(g)), 12)});
       return g.node("Relu", {g.point(g.depthwise(x), 10)});
     },
     30},
    {"Gemm",
     [](GraphMaker& g) {
       return g.gemm(g.input({1, 40}), 12);
     },
     35},
    {"GemmTransposed",
     [](GraphMaker& g) {
       return g.node("Gemm", {g.input({1, 40}), g.random({12, 40}, 0.2F), g.random({12})},
                     {{"transB", kOne}, {"alpha", 0.5F}, {"beta", 2.0F}});
     },
     35},
    {"GemmAfterFlatten",
     [](GraphMaker& g) {
       return g.gemm(g.node("Flatten", {g.conv(image(g), {})}, {{"axis", kOne}}), 11);
     },
     33},
    {"GemmAfterReshape",
     [](GraphMaker& g) {
       const ValueId x = g.node("Reshape", {g.node("Relu", {image(g)}), g.ints({1, -1})});
       return g.gemm(x, 11);
     },
     35},
    {"MatMulRows",
     [](GraphMaker& g) {
       return g.node("MatMul", {g.input({1, 7, 20}), g.random({20, 9}, 0.2F)});
     },
     35},
    {"Relu", [](GraphMaker& g) { return unary(g, "Relu"); }, 33},
    {"Clip",
     [](GraphMaker& g) {
       return g.node("Clip", {g.conv(image(g), {}), g.scalar(-0.5F), g.scalar(1.0F)});
     },
     33},
    {"ReluAlone", [](GraphMaker& g) { return g.node("Relu", {image(g)}); }, 35},
    {"LeakyRelu",
     [](GraphMaker& g) {
       return unary(g, "LeakyRelu", {{"alpha", 0.1F}});
     },
     33},
    {"Sigmoid", [](GraphMaker& g) { return unary(g, "Sigmoid"); }, 33},
    {"HardSigmoid", [](GraphMaker& g) { return unary(g, "HardSigmoid"); }, 33},
    {"HardSwish", [](GraphMaker& g) { return unary(g, "HardSwish"); }, 33},
    {"Swish", [](GraphMaker& g) { return unary(g, "Swish"); }, 33},
    {"Tanh", [](GraphMaker& g) { return unary(g, "Tanh"); }, 33},
    {"Elu",
     [](GraphMaker& g) {
       return unary(g, "Elu", {{"alpha", 0.7F}});
     },
     33},
    {"PReluChannels",
     [](GraphMaker& g) {
       return g.node("PRelu", {g.conv(image(g), {}), g.random({8, 1, 1}, 0.3F)});
     },
     32},
    {"PReluScalar",
     [](GraphMaker& g) {
       return g.node("PRelu", {g.conv(image(g), {}), g.random({1}, 0.3F)});
     },
     33},
    {"Add",
     [](GraphMaker& g) {
       const ValueId x = image(g);
       return g.node("Add", {g.conv(x, {.out = 6}), x});
     },
     33},
    {"AddRelu",
     [](GraphMaker& g) {
       const ValueId x = image(g);
       return g.node("Relu", {g.node("Add", {g.conv(x, {.out = 6}), x})});
     },
     33},
    {"Sub",
     [](GraphMaker& g) {
       const ValueId x = image(g);
       return g.node("Sub", {g.conv(x, {.out = 6}), x});
     },
     33},
    {"Mul",
     [](GraphMaker& g) {
       const ValueId x = image(g);
       return g.node("Mul", {g.conv(x, {.out = 6}), x});
     },
     30},
    {"AddScalar",
     [](GraphMaker& g) {
       return g.node("Add", {image(g), g.scalar(0.7F)});
     },
     35},
    {"SubFromScalar",
     [](GraphMaker& g) {
       return g.node("Sub", {g.scalar(0.7F), image(g)});
     },
     35},
    {"MulScalarNegative",
     [](GraphMaker& g) {
       return g.node("Mul", {image(g), g.scalar(-3)});
     },
     35},
    {"DivScalar",
     [](GraphMaker& g) {
       return g.node("Div", {image(g), g.scalar(6)});
     },
     35},
    {"AddChannels",
     [](GraphMaker& g) {
       return g.node("Add", {image(g), g.random({6, 1, 1})});
     },
     35},
    {"SubChannels",
     [](GraphMaker& g) {
       return g.node("Sub", {g.random({1, 6, 1, 1}), image(g)});
     },
     35},
    {"MulChannels",
     [](GraphMaker& g) {
       return g.node("Mul", {image(g), g.random({6, 1, 1})});
     },
     35},
    {"DivChannels",
     [](GraphMaker& g) {
       return g.node("Div", {image(g), g.random({6, 1, 1}, 0.2F, 2.0F)});
     },
     35},
    {"AddTensor",
     [](GraphMaker& g) {
       return g.node("Add", {image(g), g.random({6, 9, 7})});
     },
     33},
    {"MulRows",
     [](GraphMaker& g) {
       return g.node("Mul", {image(g), g.random({9, 1})});
     },
     30},
    {"DivTensor",
     [](GraphMaker& g) {
       return g.node("Div", {image(g), g.random({9, 7}, 0.2F, 2.0F)});
     },
     30},
    {"Quotient",
     [](GraphMaker& g) {
       const ValueId x = image(g);
       const ValueId gate = g.node("Sigmoid", {g.conv(x, {})});
       const ValueId divisor = g.node("Add", {gate, g.scalar(0.5F)});
       return g.node("Mul", {g.conv(x, {}), g.node("Reciprocal", {divisor})});
     },
     30},
    {"SqueezeExcite",
     [](GraphMaker& g) {
       const ValueId x = g.node("HardSwish", {g.conv(image(g), {})});
       const ValueId pooled = g.node("GlobalAveragePool", {x});
       const ValueId squeezed = g.node("Relu", {g.point(pooled, 4)});
       const ValueId gate = g.node("HardSigmoid", {g.point(squeezed, 8)});
       return g.node("Mul", {gate, x});
     },
     28},
    {"MaxPool",
     [](GraphMaker& g) { return g.node("MaxPool", {g.conv(image(g), {})}, window(3, 2, 1)); }, 33},
    {"MaxPoolRelu",
     [](GraphMaker& g) {
       return g.node("Relu", {g.node("MaxPool", {g.conv(image(g), {})}, window(2, 2, 0))});
     },
     33},
    {"MaxPoolCeil",
     [](GraphMaker& g) {
       auto attributes = window(3, 2, 0);
       attributes["ceil_mode"] = kOne;
       return g.node("MaxPool", {g.input({1, 6, 8, 8})}, attributes);
     },
     35},
    {"AveragePool",
     [](GraphMaker& g) { return g.node("AveragePool", {image(g)}, window(3, 1, 1)); }, 30},
    {"AveragePoolCountPad",
     [](GraphMaker& g) {
       auto attributes = window(3, 2, 1);
       attributes["count_include_pad"] = kOne;
       return g.node("AveragePool", {image(g)}, attributes);
     },
     30},
    {"AveragePoolCountPadCeil",
     [](GraphMaker& g) {
       auto attributes = window(3, 2, 1);
       attributes["count_include_pad"] = kOne;
       attributes["ceil_mode"] = kOne;
       return g.node("AveragePool", {g.input({1, 6, 8, 8})}, attributes);
     },
     30},
    {"GlobalAveragePool",
     [](GraphMaker& g) { return g.node("GlobalAveragePool", {g.conv(image(g), {})}); }, 28},
    {"GlobalMaxPool", [](GraphMaker& g) { return g.node("GlobalMaxPool", {g.conv(image(g), {})}); },
     33},
    {"ReduceMeanImage",
     [](GraphMaker& g) {
       return g.node("ReduceMean", {g.conv(image(g), {})},
                     {{"axes", Ints{2, 3}}, {"keepdims", std::int64_t{0}}});
     },
     28},
    {"ReduceMeanChannels",
     [](GraphMaker& g) {
       return g.node("ReduceMean", {image(g)}, {{"axes", Ints{1}}, {"keepdims", kOne}});
     },
     28},
    {"Concat",
     [](GraphMaker& g) {
       const ValueId x = image(g);
       return g.node("Concat", {g.node("Relu", {g.conv(x, {})}), g.conv(x, {.out = 3}), x},
                     {{"axis", kOne}});
     },
     33},
    {"ConcatRows",
     [](GraphMaker& g) {
       const ValueId x = image(g);
       return g.node("Concat", {x, g.conv(x, {.out = 6})}, {{"axis", std::int64_t{2}}});
     },
     33},
    {"ConcatConstant",
     [](GraphMaker& g) {
       return g.node("Concat", {image(g), g.random({1, 2, 9, 7})}, {{"axis", kOne}});
     },
     35},
    {"Pad",
     [](GraphMaker& g) {
       return g.node("Pad", {image(g), g.ints({0, 1, 0, 2, 0, 0, 3, 0}), g.scalar(0.5F)});
     },
     35},
    {"PadCrop",
     [](GraphMaker& g) {
       return g.node("Pad", {image(g), g.ints({0, -1, -2, 2, 0, 0, 3, -1}), g.scalar(0.5F)});
     },
     35},
    {"Crop",
     [](GraphMaker& g) {
       return g.node("Pad", {g.conv(image(g), {}), g.ints({0, 0, -1, 0, 0, 0, 0, -2})});
     },
     33},
    {"PadReflect",
     [](GraphMaker& g) {
       return g.conv(g.node("Pad", {image(g), g.ints({0, 0, 3, 1, 0, 0, 2, 0})},
                            {{"mode", std::string("reflect")}}),
                     {});
     },
     35},
    {"PadEdge",
     [](GraphMaker& g) {
       return g.node("Pad", {g.conv(image(g), {}), g.ints({0, 1, 0, 2, 0, 2, 3, 1})},
                     {{"mode", std::string("edge")}});
     },
     33},
    {"TransposeToLast",
     [](GraphMaker& g) {
       return g.node("Transpose", {g.conv(image(g), {})}, {{"perm", Ints{0, 2, 3, 1}}});
     },
     33},
    {"ChannelsLastInput",
     [](GraphMaker& g) {
       const ValueId x = g.node("Transpose", {g.input({1, 9, 7, 6})}, {{"perm", Ints{0, 3, 1, 2}}});
       return g.conv(x, {});
     },
     35},
    {"TransposeImage",
     [](GraphMaker& g) {
       const ValueId x = g.node("Transpose", {image(g)}, {{"perm", Ints{0, 3, 1, 2}}});
       return g.conv(x, {});
     },
     35},
    {"ChannelShuffle",
     [](GraphMaker& g) {
       ValueId x = g.node("Reshape", {image(g), g.ints({1, 2, 3, 9, 7})});
       x = g.node("Transpose", {x}, {{"perm", Ints{0, 2, 1, 3, 4}}});
       x = g.node("Reshape", {x, g.ints({1, 6, 9, 7})});
       return g.conv(x, {});
     },
     35},
    {"PixelShuffle",
     [](GraphMaker& g) {
       ValueId x = g.node("Reshape", {g.input({1, 12, 5, 4}), g.ints({1, 3, 2, 2, 5, 4})});
       x = g.node("Transpose", {x}, {{"perm", Ints{0, 1, 4, 2, 5, 3}}});
       x = g.node("Reshape", {x, g.ints({1, 3, 10, 8})});
       return g.conv(x, {});
     },
     35},
    {"FlattenedOutput",
     [](GraphMaker& g) {
       return g.node("Flatten", {image(g)}, {{"axis", kOne}});
     },
     35},
    {"FlattenFlattenAdd",
     [](GraphMaker& g) {
       const ValueId x = image(g);
       const ValueId a = g.node("Flatten", {x}, {{"axis", kOne}});
       const ValueId b = g.node("Flatten", {g.conv(x, {.out = 6})}, {{"axis", kOne}});
       return g.node("Add", {a, b});
     },
     33},
    {"FlattenAddInput",
     [](GraphMaker& g) {
       const ValueId a = g.node("Flatten", {image(g)}, {{"axis", kOne}});
       return g.node("Add", {a, g.input({1, 378})});
     },
     33},
    {"Slice",
     [](GraphMaker& g) {
       return g.node("Slice",
                     {image(g), g.ints({1, 2}), g.ints({6, -1}), g.ints({1, 3}), g.ints({2, 1})});
     },
     35},
    {"SliceBackwards",
     [](GraphMaker& g) {
       return g.node("Slice", {image(g), g.ints({-1, 5, 1}), g.ints({-100, 0, 9}),
                               g.ints({1, 3, 2}), g.ints({-2, -1, 3})});
     },
     35},
    {"SplitConcat",
     [](GraphMaker& g) {
       const auto parts = g.nodes("Split", {image(g), g.ints({2, 4})}, {{"axis", kOne}}, 2);
       return g.node("Concat", {parts[1], parts[0]}, {{"axis", kOne}});
     },
     35},
    {"UnsqueezeSqueeze",
     [](GraphMaker& g) {
       const ValueId x = g.node("Unsqueeze", {g.input({1, 30}), g.ints({2, 3})});
       return g.node("Squeeze", {g.point(x, 5), g.ints({2, 3})});
     },
     35},
    {"Softmax",
     [](GraphMaker& g) {
       const ValueId x = g.node("Softmax", {g.gemm(g.input({1, 20}), 5)}, {{"axis", kOne}});
       return g.node("Mul", {x, g.scalar(2.0F)});
     },
     28},
    {"SoftmaxChannels",
     [](GraphMaker& g) {
       const ValueId x = g.node("Softmax", {g.conv(image(g), {})}, {{"axis", kOne}});
       return g.conv(x, {});
     },
     25},
    {"Lrn",
     [](GraphMaker& g) {
       return g.node("LRN", {g.conv(image(g), {})},
                     {{"size", std::int64_t{3}}, {"alpha", 0.3F}, {"beta", 0.75F}, {"bias", 1.0F}});
     },
     32},
    {"LrnHalf",
     [](GraphMaker& g) {
       return g.node("LRN", {image(g)},
                     {{"size", std::int64_t{5}}, {"alpha", 1.0F}, {"beta", 0.5F}, {"bias", 2.0F}});
     },
     32},
    {"MaxWithConstant",
     [](GraphMaker& g) {
       return g.node("Max", {image(g), g.scalar(0.1F)});
     },
     33},
};

// decoded runs the plan on a sample and returns its first output in the float graph's order.
std::vector<float> decoded(const model::Plan& plan, const Graph& graph, const Sample& sample) {
  const auto channels_last = [](const Shape& s) {
    return s.size() == 4 ? std::array<std::int64_t, 3>{s[1], s[2], s[3]}
                         : std::array<std::int64_t, 3>{0, 0, 0};
  };
  std::vector<Codes> inputs;
  for (std::size_t i = 0; i < sample.size(); ++i) {
    const auto values = sample[i].view<float>();
    std::vector<float> reals(values.begin(), values.end());
    const auto [c, h, w] = channels_last(sample[i].shape());
    const model::TensorInfo& info = plan.tensors[plan.inputs[i]];
    if (c != 0 && info.shape.c == c && !(info.shape.h == c && info.shape.w == h)) {
      for (std::size_t j = 0; j < reals.size(); ++j) {
        reals[j % std::size_t(h * w) * std::size_t(c) + j / std::size_t(h * w)] = values[j];
      }
    } else if (sample[i].rank() == 3 && info.shape.w == sample[i].shape()[2] &&
               info.shape.c == sample[i].shape()[1] && c == 0) {
      ADD_FAILURE() << "inputs of rank 3 keep their order";
    }
    inputs.push_back(encode_reals(info, reals));
  }
  const model::TensorInfo& info = plan.tensors[plan.outputs[0].tensor];
  const std::vector<float> reals = decode_reals(info, run_reference(plan, inputs)[0]);
  std::vector<float> ordered = reals;
  const auto [c, h, w] = channels_last(graph.value(graph.outputs[0]).shape);
  if (c != 0 && info.shape.c == c && info.shape.h == h && info.shape.w == w) {
    for (std::size_t j = 0; j < reals.size(); ++j) {
      ordered[j] = reals[j % std::size_t(h * w) * std::size_t(c) + j / std::size_t(h * w)];
    }
  }
  return ordered;
}

class QuantiseOps : public ::testing::TestWithParam<Case> {};

TEST_P(QuantiseOps, StaysCloseToFloat) {
  const Case& one = GetParam();
  for (const unsigned seed : {1U, 2U}) {
    GraphMaker g(seed);
    const ValueId out = one.build(g);
    const Graph graph = g.finish({out});
    QuantiseOptions options;
    options.calibrator = Calibrator::kMinMax;
    const auto result = quantise(graph, normal_samples(8), options);
    ASSERT_TRUE(result.ok()) << result.error().message();
    const model::Plan& plan = result.value().plan;
    ASSERT_TRUE(model::validate(plan).ok());
    // An independent sample, not among those of the calibration; its tails may be cut.
    double signal = 0.0;
    double noise = 0.0;
    for (std::size_t i = 0; i < 8; ++i) {
      const Sample sample = normal_samples(8).get(input_info(graph), i).value();
      const auto expected = run(graph, sample);
      ASSERT_TRUE(expected.ok());
      const auto reals = expected.value()[0].view<float>();
      const std::vector<float> found = decoded(plan, graph, sample);
      ASSERT_EQ(found.size(), reals.size());
      for (std::size_t j = 0; j < found.size(); ++j) {
        signal += double{reals[j]} * reals[j];
        noise += (double{found[j]} - reals[j]) * (double{found[j]} - reals[j]);
      }
    }
    EXPECT_GT(signal, 0.0);
    EXPECT_GE(10.0 * std::log10(signal / noise), one.least_snr_db) << "seed " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(All, QuantiseOps, ::testing::ValuesIn(kCases),
                         [](const auto& test) { return std::string(test.param.name); });

// An output is called what the file calls it, also where it is another view of a tensor or was
// moved.
TEST(QuantiseOutputs, KeepTheirNames) {
  GraphMaker g;
  const ValueId x = g.conv(image(g), {});
  const ValueId flat = g.node("Flatten", {g.conv(x, {.out = 3})}, {{"axis", kOne}});
  const ValueId turned = g.node("Transpose", {x}, {{"perm", Ints{0, 1, 3, 2}}});
  const ValueId pooled = g.node("Flatten", {g.node("GlobalAveragePool", {x})}, {{"axis", kOne}});
  const Graph graph = g.finish({flat, turned, pooled});
  const auto quantised = quantise(graph, normal_samples(2));
  ASSERT_TRUE(quantised.ok());
  const model::Plan& plan = quantised.value().plan;
  ASSERT_EQ(plan.outputs.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(plan.tensors[plan.outputs[i].tensor].name, graph.value(graph.outputs[i]).name) << i;
  }
}

}  // namespace
}  // namespace slalom::importer
