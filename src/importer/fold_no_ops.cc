// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "importer/fold_rewrites.h"
#include "importer/graph_edit.h"

namespace slalom::importer {
namespace {

template <std::size_t kCount>
bool one_of(std::string_view op, const std::array<std::string_view, kCount>& names) {
  return std::find(names.begin(), names.end(), op) != names.end();
}

bool same_shape(const Value& a, const Value& b) {
  return a.dtype == b.dtype && a.shape == b.shape && a.batch_axis == b.batch_axis;
}

bool steps_forward(const Graph& graph, const Node& node) {
  if (node.input(4) == kNoValue) return true;
  const Tensor* steps = graph.constant(node.input(4));
  if (steps == nullptr || steps->dtype() != DType::kInt64) return false;
  const auto view = steps->view<std::int64_t>();
  return std::all_of(view.begin(), view.end(), [](std::int64_t step) { return step > 0; });
}

bool pads_nothing(const Graph& graph, const Node& node) {
  const Tensor* pads = graph.constant(node.input(1));
  if (pads == nullptr || pads->dtype() != DType::kInt64) return false;
  const auto view = pads->view<std::int64_t>();
  return std::all_of(view.begin(), view.end(), [](std::int64_t pad) { return pad == 0; });
}

bool keeps_order(const Node& node) {
  const auto* perm = node.attribute<std::vector<std::int64_t>>("perm");
  return perm != nullptr && std::is_sorted(perm->begin(), perm->end());
}

// returns_input says whether a node's first output always equals its first input.
bool returns_input(const Graph& graph, const Node& node) {
  if (node.op == "Identity") return true;
  if (node.op == "Dropout") {
    return node.outputs.size() == 1;
  }
  if (one_of<4>(node.op, {"Sum", "Concat", "Max", "Min"})) return node.inputs.size() == 1;
  if (node.outputs.size() != 1 || node.inputs.empty() ||
      !same_shape(graph.value(node.inputs[0]), graph.value(node.outputs[0]))) {
    return false;
  }
  if (one_of<6>(node.op, {"Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand"})) {
    return true;
  }
  if (node.op == "Slice") return steps_forward(graph, node);
  if (node.op == "Pad") return pads_nothing(graph, node);
  return node.op == "Transpose" && keeps_order(node);
}

// sum_to_add makes Add nodes of a Sum: a + b + c is (a + b) + c there too.
void sum_to_add(Editor& editor, std::size_t i) {
  Graph& graph = editor.graph();
  const std::vector<ValueId> terms = editor.node(i).inputs;
  const ValueId result = editor.node(i).outputs[0];
  ValueId total = terms[0];
  for (std::size_t t = 1; t < terms.size(); ++t) {
    const bool last = t + 1 == terms.size();
    const ValueId next = last ? result : graph.add_value(graph.value(result).name + ".part");
    if (t == 1) {
      Node& node = editor.node(i);
      node.op = "Add";
      node.outputs[0] = next;
      editor.set_inputs(i, {total, terms[t]});
    } else {
      Node add = editor.node(i);
      add.inputs = {total, terms[t]};
      add.outputs = {next};
      editor.insert_after(i, std::move(add));
    }
    total = next;
  }
}

}  // namespace

void remove_no_ops(Graph& graph) {
  Editor editor(graph);
  for (std::size_t i = 0; i < editor.size(); ++i) {
    if (returns_input(graph, editor.node(i))) {
      editor.bypass(i, editor.node(i).inputs[0]);
    } else if (editor.node(i).op == "Sum") {
      sum_to_add(editor, i);
    }
  }
  editor.finish();
}

}  // namespace slalom::importer
