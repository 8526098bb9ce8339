// SPDX-License-Identifier: Apache-2.0
// Convolutions and products of matrices, activations, sums and products, normalisations.
#include <utility>

#include "importer/quantise_op_cases.h"

namespace slalom::importer::testing {
namespace {

ValueId unary(GraphMaker& g, const char* op, GraphMaker::Attributes attributes = {}) {
  return g.node(op, {g.conv(g.input({1, 6, 9, 7}), {})}, std::move(attributes));
}

const QuantiseCase kCases[] = {
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

}  // namespace

std::span<const QuantiseCase> arithmetic_cases() { return kCases; }

}  // namespace slalom::importer::testing
