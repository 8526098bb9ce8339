// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "importer/fold_rewrites.h"
#include "importer/graph_edit.h"
#include "importer/ops/normalisation.h"
#include "importer/ops/op.h"

namespace slalom::importer {
namespace {

using Affine = std::vector<ChannelAffine>;

const Tensor* float_constant(const Graph& graph, ValueId id) {
  const Tensor* tensor = graph.constant(id);
  return tensor != nullptr && tensor->dtype() == DType::kFloat32 ? tensor : nullptr;
}

// --- What a node does to each channel -------------------------------------------------------

Affine batch_norm_affine(const Graph& graph, const Node& node) {
  std::vector<const Tensor*> parameters;
  for (std::size_t i = 1; i < 5; ++i) {
    parameters.push_back(float_constant(graph, node.inputs[i]));
    if (parameters.back() == nullptr) {
      throw Failure(blame(Error{.what = "its parameters must be constants"}, node));
    }
  }
  Affine affine =
      channel_affine(node, *parameters[0], *parameters[1], *parameters[2], *parameters[3]);
  for (const ChannelAffine& c : affine) {
    if (!std::isfinite(c.scale) || !std::isfinite(c.shift)) {
      throw Failure(blame(Error{.what = "its parameters give a scale that is not finite"}, node));
    }
  }
  return affine;
}

// channel_constant reads a constant that differs at most between channels (axis 1 of `shape`).
std::optional<std::vector<double>> channel_constant(const Graph& graph, ValueId id,
                                                    const Shape& shape) {
  const Tensor* tensor = float_constant(graph, id);
  if (tensor == nullptr || shape.size() < 2 || tensor->rank() > shape.size()) return std::nullopt;
  const auto channels = static_cast<std::size_t>(shape[1]);
  if (tensor->size() != 1) {
    if (tensor->size() != channels) return std::nullopt;
    const std::size_t lead = shape.size() - tensor->rank();
    if (lead > 1 || tensor->shape()[1 - lead] != shape[1]) return std::nullopt;
  }
  const auto view = tensor->view<float>();
  std::vector<double> values(channels);
  for (std::size_t c = 0; c < channels; ++c) values[c] = view[view.size() == 1 ? 0 : c];
  return values;
}

ChannelAffine affine_of(const std::string& op, bool constant_first, double value) {
  if (op == "Add") return {.scale = 1.0, .shift = value};
  if (op == "Sub") {
    return constant_first ? ChannelAffine{.scale = -1.0, .shift = value}
                          : ChannelAffine{.scale = 1.0, .shift = -value};
  }
  if (op == "Mul") return {.scale = value, .shift = 0.0};
  return {.scale = 1.0 / value, .shift = 0.0};  // Div
}

// --- Folding into a linear layer ------------------------------------------------------------

// channel_of returns which output channel element i of the weights belongs to.
std::size_t channel_of(const Node& node, const Tensor& weights, std::size_t i) {
  const auto dim = [&weights](std::size_t d) {
    return static_cast<std::size_t>(weights.shape()[d]);
  };
  if (node.op == "Conv") return i / (weights.size() / dim(0));
  if (node.op == "Gemm") return node.int_or("transB", 0) != 0 ? i / dim(1) : i % dim(1);
  // ConvTranspose: [groups * group_in, group_out, kernel...].
  const auto groups = static_cast<std::size_t>(node.int_or("group", 1));
  const std::size_t slice = weights.size() / dim(0);
  const std::size_t group = i / slice / (dim(0) / groups);
  return group * dim(1) + i % slice / (slice / dim(1));
}

// plain_gemm makes alpha and beta 1 and the addend a vector, where they are constants. False if
// the Gemm cannot absorb a step.
bool plain_gemm(Editor& editor, std::size_t i) {
  Graph& graph = editor.graph();
  const Node& node = editor.node(i);
  const Tensor* weights = float_constant(graph, node.inputs[1]);
  if (weights == nullptr || weights->rank() != 2) return false;
  const float alpha = node.float_or("alpha", 1.0F);
  const float beta = node.float_or("beta", 1.0F);
  const Shape shape = graph.value(node.outputs[0]).shape;
  std::vector<ValueId> inputs = node.inputs;
  if (node.input(2) != kNoValue) {
    const auto addend = channel_constant(graph, node.inputs[2], shape);
    if (!addend) return false;
    std::vector<float> bias;
    for (const double value : *addend) bias.push_back(static_cast<float>(value * beta));
    const Tensor tensor = Tensor::of(Shape{shape[1]}, bias);
    if (tensor != *graph.constant(inputs[2])) {
      inputs[2] = graph.add_initialiser(graph.value(inputs[2]).name + ".vector", tensor);
    }
  }
  if (alpha != 1.0F) {
    Tensor scaled = *weights;
    for (float& w : scaled.view<float>()) w *= alpha;
    inputs[1] = graph.add_initialiser(graph.value(inputs[1]).name + ".scaled", std::move(scaled));
  }
  editor.set_inputs(i, std::move(inputs));
  editor.node(i).attributes.erase("alpha");
  editor.node(i).attributes.erase("beta");
  return true;
}

// can_absorb says whether node i is a linear layer with constant weights that only `id` leaves.
bool can_absorb(Editor& editor, std::size_t i, ValueId id) {
  const Node& node = editor.node(i);
  const Graph& graph = editor.graph();
  if (!editor.read_once(id)) return false;
  if (node.op == "Gemm") return plain_gemm(editor, i);
  if (node.op != "Conv" && node.op != "ConvTranspose") return false;
  return float_constant(graph, node.inputs[1]) != nullptr &&
         (node.input(2) == kNoValue || float_constant(graph, node.inputs[2]) != nullptr);
}

// absorbing_layer returns the linear layer that makes a value and can take a step in, or kNoNode.
std::size_t absorbing_layer(Editor& editor, ValueId id) {
  const std::size_t linear = editor.producer_index(id);
  return linear != kNoNode && can_absorb(editor, linear, id) ? linear : kNoNode;
}

void absorb_step(Editor& editor, std::size_t linear, std::size_t step_index, const Affine& affine) {
  Graph& graph = editor.graph();
  const Node& node = editor.node(linear);
  std::vector<ValueId> inputs = node.inputs;
  const Tensor& old_weights = *graph.constant(inputs[1]);
  Tensor weights = old_weights;
  const auto view = weights.view<float>();
  for (std::size_t i = 0; i < view.size(); ++i) {
    view[i] = static_cast<float>(static_cast<double>(view[i]) *
                                 affine[channel_of(node, old_weights, i)].scale);
  }
  std::vector<float> bias(affine.size());
  const Tensor* old_bias = graph.constant(node.input(2));
  for (std::size_t c = 0; c < affine.size(); ++c) {
    const double before = old_bias == nullptr ? 0.0 : old_bias->view<float>()[c];
    bias[c] = static_cast<float>(before * affine[c].scale + affine[c].shift);
  }
  const std::string base = graph.value(inputs[1]).name;
  inputs.resize(3, kNoValue);
  inputs[1] = graph.add_initialiser(base + ".folded", std::move(weights));
  inputs[2] = graph.add_initialiser(
      base + ".bias", Tensor::of(Shape{static_cast<std::int64_t>(bias.size())}, bias));
  editor.set_inputs(linear, std::move(inputs));
  editor.absorb(linear, step_index);
}

// --- BatchNormalization that stands alone ---------------------------------------------------

Tensor channel_tensor(const Affine& affine, double ChannelAffine::*member, Shape shape) {
  std::vector<float> values;
  for (const ChannelAffine& c : affine) values.push_back(static_cast<float>(c.*member));
  return Tensor::of(std::move(shape), values);
}

void batch_norm_to_conv(Editor& editor, std::size_t i, const Affine& affine, std::size_t rank) {
  Graph& graph = editor.graph();
  const auto channels = static_cast<std::int64_t>(affine.size());
  const std::string base = graph.value(editor.node(i).inputs[1]).name;
  Shape kernel(rank, 1);
  kernel[0] = channels;
  const ValueId weights = graph.add_initialiser(
      base + ".folded", channel_tensor(affine, &ChannelAffine::scale, std::move(kernel)));
  const ValueId bias = graph.add_initialiser(
      base + ".bias", channel_tensor(affine, &ChannelAffine::shift, {channels}));
  editor.node(i).op = "Conv";
  editor.node(i).attributes = {{"group", channels}};
  editor.set_inputs(i, {editor.node(i).inputs[0], weights, bias});
}

void batch_norm_to_mul_add(Editor& editor, std::size_t i, const Affine& affine, std::size_t rank) {
  Graph& graph = editor.graph();
  const std::string base = graph.value(editor.node(i).inputs[1]).name;
  Shape shape(rank - 1, 1);
  shape[0] = static_cast<std::int64_t>(affine.size());
  const ValueId scale =
      graph.add_initialiser(base + ".folded", channel_tensor(affine, &ChannelAffine::scale, shape));
  const ValueId shift =
      graph.add_initialiser(base + ".bias", channel_tensor(affine, &ChannelAffine::shift, shape));
  const ValueId result = editor.node(i).outputs[0];
  const ValueId between = graph.add_value(graph.value(result).name + ".scaled");
  Node add = editor.node(i);
  add.op = "Add";
  add.attributes.clear();
  add.inputs = {between, shift};
  add.outputs = {result};
  Node& mul = editor.node(i);
  mul.op = "Mul";
  mul.attributes.clear();
  mul.outputs = {between};
  editor.set_inputs(i, {mul.inputs[0], scale});
  editor.insert_after(i, std::move(add));
}

void fold_batch_norm(Editor& editor, std::size_t i) {
  const Graph& graph = editor.graph();
  const ValueId x = editor.node(i).inputs[0];
  const Affine affine = batch_norm_affine(graph, editor.node(i));
  const std::size_t linear = absorbing_layer(editor, x);
  const std::size_t rank = graph.value(x).shape.size();
  if (linear != kNoNode) {
    absorb_step(editor, linear, i, affine);
  } else if (rank >= 3 && rank <= 5) {
    batch_norm_to_conv(editor, i, affine, rank);
  } else {
    batch_norm_to_mul_add(editor, i, affine, rank);
  }
}

// fold_arithmetic absorbs Add, Sub, Mul and Div with a constant for each channel.
void fold_arithmetic(Editor& editor, std::size_t i) {
  const Node& node = editor.node(i);
  for (const std::size_t side : {1U, 0U}) {
    if (side == 0 && node.op == "Div") continue;
    const ValueId x = node.inputs[1 - side];
    if (editor.graph().constant(node.inputs[side]) == nullptr) continue;
    const std::size_t linear = absorbing_layer(editor, x);
    if (linear == kNoNode) continue;
    const auto values =
        channel_constant(editor.graph(), node.inputs[side], editor.graph().value(x).shape);
    if (!values) continue;
    Affine affine;
    for (const double value : *values) affine.push_back(affine_of(node.op, side == 0, value));
    if (!std::all_of(affine.begin(), affine.end(),
                     [](const ChannelAffine& c) { return std::isfinite(c.scale); })) {
      continue;
    }
    absorb_step(editor, linear, i, affine);
    return;
  }
}

void matmul_to_gemm(Graph& graph, Node& node) {
  const Tensor* weights = float_constant(graph, node.inputs[1]);
  if (weights == nullptr || weights->rank() != 2 || graph.value(node.inputs[0]).shape.size() != 2) {
    return;
  }
  node.op = "Gemm";
}

}  // namespace

void fold_affine(Graph& graph) {
  for (Node& node : graph.nodes) {
    if (node.op == "MatMul") matmul_to_gemm(graph, node);
  }
  Editor editor(graph);
  for (std::size_t i = 0; i < editor.size(); ++i) {
    const std::string op = editor.node(i).op;
    if (op == "Gemm") plain_gemm(editor, i);
    if (op == "BatchNormalization") fold_batch_norm(editor, i);
    if (op == "Add" || op == "Sub" || op == "Mul" || op == "Div") fold_arithmetic(editor, i);
  }
  editor.finish();
}

}  // namespace slalom::importer
