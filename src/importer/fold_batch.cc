// SPDX-License-Identifier: Apache-2.0
// Shapes alone do not show whether the images of a batch stay apart: reversing a batch, or a
// softmax over it, keeps every shape. So each operator that could mix along the batch axis is
// checked for it.
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "importer/fold_types.h"
#include "importer/ops/axes.h"
#include "importer/ops/op.h"
#include "importer/ops/pad.h"

namespace slalom::importer {
namespace {

// Step is a node with the first of its inputs that has a batch axis.
struct Step {
  const Graph& graph;
  const Node& node;
  const Value& in;
  const Value& out;

  [[nodiscard]] std::size_t axis() const { return static_cast<std::size_t>(in.batch_axis); }
};

// Elements that lie before the batch axis: they are the outer loop around the images.
std::int64_t outer_elements(const Value& value) {
  return element_count(Shape(value.shape.begin(), value.shape.begin() + value.batch_axis));
}

bool layout_keeps(const Step& step) { return outer_elements(step.in) == outer_elements(step.out); }

bool leading_keeps(const Step& step) { return step.in.batch_axis == 0; }

bool axis_keeps(const Step& step) {
  const std::int64_t otherwise = step.node.op == "Concat" ? 1 : 0;
  return normalise_axis(step.node.int_or("axis", otherwise), step.in.shape.size()) != step.axis();
}

bool gather_keeps(const Step& step) {
  const Value& data = step.graph.value(step.node.inputs[0]);
  return data.batch_axis < 0 || axis_keeps(step);
}

bool softmax_keeps(const Step& step) {
  const bool matrix = step.node.opset < 13;
  const std::size_t axis =
      normalise_axis(step.node.int_or("axis", matrix ? 1 : -1), step.in.shape.size());
  return matrix ? step.axis() < axis : step.axis() != axis;
}

std::vector<OpInput> inputs_of(const Step& step) {
  std::vector<OpInput> inputs(step.node.inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const ValueId id = step.node.inputs[i];
    if (id == kNoValue) continue;
    const Value& value = step.graph.value(id);
    inputs[i] = {.present = true,
                 .type = {.dtype = value.dtype, .shape = value.shape},
                 .data = step.graph.constant(id)};
  }
  return inputs;
}

bool pad_keeps(const Step& step) {
  const auto inputs = inputs_of(step);
  const PadAmount pad = pad_amounts(InferContext(step.node, inputs)).at(step.axis());
  return pad.begin == 0 && pad.end == 0;
}

// A slice of the batch that is still proportional to it begins with the first image, or with the
// last one and goes backwards.
bool slice_keeps(const Step& step) {
  const auto inputs = inputs_of(step);
  const InferContext context(step.node, inputs);
  if (!context.has(4)) return true;
  const auto steps = context.ints(4);
  std::vector<std::int64_t> axes(steps.size());
  for (std::size_t i = 0; i < axes.size(); ++i) axes[i] = static_cast<std::int64_t>(i);
  if (context.has(3)) axes = context.ints(3);
  for (std::size_t i = 0; i < axes.size(); ++i) {
    if (normalise_axis(axes[i], step.in.shape.size()) == step.axis()) return steps[i] == 1;
  }
  return true;
}

struct Rule {
  std::string_view op;
  bool (*keeps)(const Step& step);
};

// Operators that are not listed work element by element, or change shape when they mix.
constexpr Rule kRules[] = {{"AveragePool", leading_keeps},
                           {"BatchNormalization", leading_keeps},
                           {"Concat", axis_keeps},
                           {"Conv", leading_keeps},
                           {"ConvTranspose", leading_keeps},
                           {"Flatten", layout_keeps},
                           {"Gather", gather_keeps},
                           {"GlobalAveragePool", leading_keeps},
                           {"GlobalMaxPool", leading_keeps},
                           {"LRN", leading_keeps},
                           {"LogSoftmax", softmax_keeps},
                           {"MaxPool", leading_keeps},
                           {"Pad", pad_keeps},
                           {"QLinearConv", leading_keeps},
                           {"Reshape", layout_keeps},
                           {"Slice", slice_keeps},
                           {"Softmax", softmax_keeps},
                           {"Split", axis_keeps},
                           {"Squeeze", layout_keeps},
                           {"Unsqueeze", layout_keeps}};

void check_node(const Graph& graph, const Node& node) {
  for (const ValueId id : node.inputs) {
    if (id == kNoValue || graph.value(id).batch_axis < 0) continue;
    for (const ValueId result : node.outputs) {
      if (result == kNoValue) continue;
      const Step step{
          .graph = graph, .node = node, .in = graph.value(id), .out = graph.value(result)};
      if (step.out.batch_axis < 0) fail("the result does not belong to one image of the batch");
      for (const Rule& rule : kRules) {
        if (rule.op == node.op && !rule.keeps(step)) fail("it mixes the images of a batch");
      }
    }
  }
}

}  // namespace

void check_images_apart(const Graph& graph) {
  for (const Node& node : graph.nodes) {
    try {
      check_node(graph, node);
    } catch (const Failure& failure) {
      throw Failure(blame(failure.error(), node));
    }
  }
}

}  // namespace slalom::importer
