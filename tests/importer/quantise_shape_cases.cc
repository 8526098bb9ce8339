// SPDX-License-Identifier: Apache-2.0
// Pools and means, joining, padding, cutting, transposing and reshaping.
#include <string>

#include "importer/quantise_op_cases.h"

namespace slalom::importer::testing {
namespace {

GraphMaker::Attributes window(std::int64_t kernel, std::int64_t stride, std::int64_t pad) {
  return {{"kernel_shape", Ints{kernel, kernel}},
          {"strides", Ints{stride, stride}},
          {"pads", Ints{pad, pad, pad, pad}}};
}

const QuantiseCase kCases[] = {
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
};

}  // namespace

std::span<const QuantiseCase> shape_cases() { return kCases; }

}  // namespace slalom::importer::testing
