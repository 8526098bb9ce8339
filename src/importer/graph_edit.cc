// SPDX-License-Identifier: Apache-2.0
#include "importer/graph_edit.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace slalom::importer {
namespace {

std::size_t index(ValueId id) { return static_cast<std::size_t>(id); }

}  // namespace

Editor::Editor(Graph& graph) : graph_(graph), links_(link(graph)) {}

// grow follows values that were added to the graph since.
void Editor::grow() {
  links_.producer.resize(graph_.values.size(), kNoNode);
  links_.consumers.resize(graph_.values.size());
  links_.is_output.resize(graph_.values.size(), false);
}

std::size_t Editor::producer_index(ValueId id) const {
  if (id == kNoValue || index(id) >= links_.producer.size()) return kNoNode;
  return links_.producer[index(id)];
}

Node* Editor::producer(ValueId id) {
  const std::size_t i = producer_index(id);
  return i == kNoNode || graph_.nodes[i].outputs.front() != id ? nullptr : &graph_.nodes[i];
}

bool Editor::read_once(ValueId id) const {
  return links_.consumers[index(id)].size() == 1 && !links_.is_output[index(id)];
}

Node* Editor::sole_producer(ValueId id, std::string_view op) {
  Node* maker = producer(id);
  return maker != nullptr && maker->op == op && read_once(id) ? maker : nullptr;
}

void Editor::unread(ValueId id, std::size_t i) {
  auto& readers = links_.consumers[index(id)];
  const auto it = std::find(readers.begin(), readers.end(), i);
  if (it != readers.end()) readers.erase(it);
}

void Editor::set_inputs(std::size_t i, std::vector<ValueId> inputs) {
  grow();
  for (const ValueId id : graph_.nodes[i].inputs) {
    if (id != kNoValue) unread(id, i);
  }
  graph_.nodes[i].inputs = std::move(inputs);
  for (const ValueId id : graph_.nodes[i].inputs) {
    if (id != kNoValue) links_.consumers[index(id)].push_back(i);
  }
}

void Editor::remove(std::size_t i) {
  set_inputs(i, {});
  for (const ValueId id : graph_.nodes[i].outputs) {
    if (id != kNoValue && links_.producer[index(id)] == i) links_.producer[index(id)] = kNoNode;
  }
  graph_.nodes[i].op.clear();
  graph_.nodes[i].outputs.clear();
}

bool Editor::bypass(std::size_t i, ValueId id) {
  const ValueId from = graph_.nodes[i].outputs.front();
  const auto redirect = [this](ValueId old_id, ValueId new_id) {
    const auto readers = links_.consumers[index(old_id)];
    for (const std::size_t reader : readers) {
      std::vector<ValueId> inputs = graph_.nodes[reader].inputs;
      std::replace(inputs.begin(), inputs.end(), old_id, new_id);
      set_inputs(reader, std::move(inputs));
    }
  };
  if (!links_.is_output[index(from)]) {
    redirect(from, id);
    remove(i);
    return true;
  }
  const std::size_t maker = links_.producer[index(id)];
  if (maker == kNoNode || links_.is_output[index(id)]) return false;
  remove(i);
  redirect(id, from);
  auto& outputs = graph_.nodes[maker].outputs;
  std::replace(outputs.begin(), outputs.end(), id, from);
  links_.producer[index(id)] = kNoNode;
  links_.producer[index(from)] = maker;
  return true;
}

void Editor::absorb(std::size_t first, std::size_t last) {
  const ValueId result = graph_.nodes[last].outputs.front();
  remove(last);
  links_.producer[index(graph_.nodes[first].outputs.front())] = kNoNode;
  graph_.nodes[first].outputs.front() = result;
  links_.producer[index(result)] = first;
}

void Editor::insert_after(std::size_t i, Node node) { inserted_.emplace_back(i, std::move(node)); }

void Editor::finish() {
  std::stable_sort(inserted_.begin(), inserted_.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Node> nodes;
  nodes.reserve(graph_.nodes.size() + inserted_.size());
  auto next = inserted_.begin();
  for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
    if (alive(i)) nodes.push_back(std::move(graph_.nodes[i]));
    for (; next != inserted_.end() && next->first == i; ++next) {
      nodes.push_back(std::move(next->second));
    }
  }
  graph_.nodes = std::move(nodes);
}

std::vector<ValueId> sweep(Graph& graph) {
  std::vector<bool> used(graph.values.size(), false);
  for (const ValueId id : graph.outputs) used[index(id)] = true;
  std::vector<Node> kept;
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    const bool needed = std::any_of(node->outputs.begin(), node->outputs.end(),
                                    [&](ValueId id) { return id != kNoValue && used[index(id)]; });
    if (!needed) continue;
    for (const ValueId id : node->inputs) {
      if (id != kNoValue) used[index(id)] = true;
    }
    kept.push_back(std::move(*node));
  }
  graph.nodes.assign(std::make_move_iterator(kept.rbegin()), std::make_move_iterator(kept.rend()));
  for (const ValueId id : graph.inputs) used[index(id)] = true;
  // Second outputs that nobody reads stay values: their node still makes them.
  for (const Node& node : graph.nodes) {
    for (const ValueId id : node.outputs) {
      if (id != kNoValue) used[index(id)] = true;
    }
  }

  std::vector<ValueId> renamed(graph.values.size(), kNoValue);
  std::vector<Value> values;
  for (std::size_t i = 0; i < graph.values.size(); ++i) {
    if (!used[i]) continue;
    renamed[i] = static_cast<ValueId>(values.size());
    values.push_back(std::move(graph.values[i]));
  }
  graph.values = std::move(values);
  const auto rename = [&renamed](std::vector<ValueId>& ids) {
    for (ValueId& id : ids) {
      if (id != kNoValue) id = renamed[index(id)];
    }
  };
  rename(graph.inputs);
  rename(graph.outputs);
  for (Node& node : graph.nodes) {
    rename(node.inputs);
    rename(node.outputs);
  }
  std::map<ValueId, Tensor> initialisers;
  for (auto& [id, tensor] : graph.initialisers) {
    if (used[index(id)]) initialisers.emplace(renamed[index(id)], std::move(tensor));
  }
  graph.initialisers = std::move(initialisers);
  return renamed;
}

}  // namespace slalom::importer
