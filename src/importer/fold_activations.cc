// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <optional>
#include <utility>

#include "importer/fold_rewrites.h"
#include "importer/graph_edit.h"

namespace slalom::importer {
namespace {

bool near(float value, double wanted) {
  return std::fabs(static_cast<double>(value) - wanted) <= 1e-6 * std::fabs(wanted);
}

// is_scalar says whether a value is a constant float with this one element, which does not raise
// the rank of what it is combined with.
bool is_scalar(const Graph& graph, ValueId id, double wanted, std::size_t rank) {
  const Tensor* tensor = graph.constant(id);
  return tensor != nullptr && tensor->dtype() == DType::kFloat32 && tensor->size() == 1 &&
         tensor->rank() <= rank && near(tensor->view<float>()[0], wanted);
}

std::size_t rank_of(const Graph& graph, ValueId id) { return graph.value(id).shape.size(); }

// other_operand returns the operand beside a given constant of a commutative node, or kNoValue.
ValueId beside_scalar(const Graph& graph, const Node& node, double wanted) {
  for (const std::size_t i : {0U, 1U}) {
    const ValueId other = node.inputs[1 - i];
    if (is_scalar(graph, node.inputs[i], wanted, rank_of(graph, other))) return other;
  }
  return kNoValue;
}

// sixth_of returns v if the node is v / 6 or v * (1 / 6), else kNoValue.
ValueId sixth_of(const Graph& graph, const Node& node) {
  if (node.op == "Mul") return beside_scalar(graph, node, 1.0 / 6.0);
  if (node.op == "Div" && is_scalar(graph, node.inputs[1], 6.0, rank_of(graph, node.inputs[0]))) {
    return node.inputs[0];
  }
  return kNoValue;
}

// Ramp is clip(x + 3, 0, 6), made by two nodes that serve nothing else.
struct Ramp {
  ValueId x;
  std::size_t add;
  std::size_t clip;
};

std::optional<Ramp> ramp_of(Editor& editor, ValueId id) {
  const Graph& graph = editor.graph();
  const Node* clip = editor.sole_producer(id, "Clip");
  if (clip == nullptr || !is_scalar(graph, clip->input(1), 0.0, kNoNode) ||
      !is_scalar(graph, clip->input(2), 6.0, kNoNode)) {
    return std::nullopt;
  }
  const Node* add = editor.sole_producer(clip->inputs[0], "Add");
  if (add == nullptr) return std::nullopt;
  const ValueId x = beside_scalar(graph, *add, 3.0);
  if (x == kNoValue) return std::nullopt;
  return Ramp{
      .x = x, .add = editor.producer_index(clip->inputs[0]), .clip = editor.producer_index(id)};
}

void become(Editor& editor, std::size_t i, const char* op, ValueId x) {
  editor.node(i).op = op;
  editor.node(i).attributes.clear();
  editor.set_inputs(i, {x});
}

// x * clip(x + 3, 0, 6) / 6 in this order.
bool hard_swish_then_sixth(Editor& editor, std::size_t i) {
  const ValueId product = sixth_of(editor.graph(), editor.node(i));
  if (product == kNoValue) return false;
  const Node* mul = editor.sole_producer(product, "Mul");
  if (mul == nullptr) return false;
  const std::size_t mul_index = editor.producer_index(product);
  for (const std::size_t side : {0U, 1U}) {
    const auto ramp = ramp_of(editor, mul->inputs[side]);
    if (!ramp || ramp->x != mul->inputs[1 - side]) continue;
    become(editor, i, "HardSwish", ramp->x);
    editor.remove(mul_index);
    editor.remove(ramp->clip);
    editor.remove(ramp->add);
    return true;
  }
  return false;
}

// clip(x + 3, 0, 6) / 6.
bool hard_sigmoid(Editor& editor, std::size_t i) {
  const ValueId clipped = sixth_of(editor.graph(), editor.node(i));
  if (clipped == kNoValue) return false;
  const auto ramp = ramp_of(editor, clipped);
  if (!ramp) return false;
  become(editor, i, "HardSigmoid", ramp->x);
  editor.node(i).attributes.emplace("alpha", 1.0F / 6.0F);
  editor.node(i).attributes.emplace("beta", 0.5F);
  editor.remove(ramp->clip);
  editor.remove(ramp->add);
  return true;
}

// x * gate(x).
void gated(Editor& editor, std::size_t i) {
  for (const std::size_t side : {0U, 1U}) {
    const ValueId gate_id = editor.node(i).inputs[side];
    const ValueId x = editor.node(i).inputs[1 - side];
    const Node* gate = editor.sole_producer(gate_id, "Sigmoid");
    const char* op = "Swish";
    if (gate == nullptr) {
      gate = editor.sole_producer(gate_id, "HardSigmoid");
      op = "HardSwish";
      if (gate == nullptr || !near(gate->float_or("alpha", 0.2F), 1.0 / 6.0) ||
          !near(gate->float_or("beta", 0.5F), 0.5)) {
        continue;
      }
    }
    if (gate->inputs[0] != x) continue;
    const std::size_t gate_index = editor.producer_index(gate_id);
    become(editor, i, op, x);
    editor.remove(gate_index);
    return;
  }
}

}  // namespace

void recognise_activations(Graph& graph) {
  Editor editor(graph);
  for (std::size_t i = 0; i < editor.size(); ++i) {
    const std::string& op = editor.node(i).op;
    if (op != "Mul" && op != "Div") continue;
    if (hard_swish_then_sixth(editor, i) || hard_sigmoid(editor, i)) continue;
    if (editor.node(i).op == "Mul") gated(editor, i);
  }
  editor.finish();
}

void divisions_to_products(Graph& graph) {
  Editor editor(graph);
  for (std::size_t i = 0; i < editor.size(); ++i) {
    const Node node = editor.node(i);
    if (node.op != "Div" || graph.value(node.outputs.at(0)).dtype != DType::kFloat32) continue;
    const Tensor* dividend = graph.constant(node.inputs[0]);
    if (graph.constant(node.inputs[1]) != nullptr) continue;
    if (dividend != nullptr && dividend->size() == 1) continue;  // one function of the divisor
    const ValueId inverse = graph.add_value(graph.value(node.inputs[1]).name + ".inverse");
    Node product = node;
    product.op = "Mul";
    product.inputs = {node.inputs[0], inverse};
    editor.node(i).op = "Reciprocal";
    editor.node(i).outputs = {inverse};
    editor.set_inputs(i, {node.inputs[1]});
    editor.insert_after(i, std::move(product));
  }
  editor.finish();
}

}  // namespace slalom::importer
