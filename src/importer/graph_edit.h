// SPDX-License-Identifier: Apache-2.0
// Editing of graphs: the bookkeeping behind the rewrites of fold().
#pragma once

#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

#include "importer/graph.h"

namespace slalom::importer {

// Editor changes a graph while keeping track of who makes and who reads each value. Removed nodes
// keep their index, with an empty operator, until finish(). Not thread safe; the graph must not
// be changed by others meanwhile.
class Editor {
 public:
  explicit Editor(Graph& graph);

  [[nodiscard]] Graph& graph() noexcept { return graph_; }
  [[nodiscard]] std::size_t size() const noexcept { return graph_.nodes.size(); }
  [[nodiscard]] Node& node(std::size_t i) { return graph_.nodes[i]; }
  [[nodiscard]] bool alive(std::size_t i) const { return !graph_.nodes[i].op.empty(); }

  // producer returns the node that makes a value as its first output, or null.
  [[nodiscard]] Node* producer(ValueId id);
  [[nodiscard]] std::size_t producer_index(ValueId id) const;
  // The node that makes a value, if its operator is `op` and nothing else than one input of one
  // node reads the value; else null.
  [[nodiscard]] Node* sole_producer(ValueId id, std::string_view op);
  [[nodiscard]] bool read_once(ValueId id) const;

  // set_inputs replaces the inputs of a node.
  void set_inputs(std::size_t i, std::vector<ValueId> inputs);
  // remove takes a node out. Its outputs must have no reader left, or get another maker.
  void remove(std::size_t i);
  // bypass lets everybody read `id` instead of node i's first output and removes the node. False,
  // and nothing happens, if the output is the network's and cannot be made by another node.
  bool bypass(std::size_t i, ValueId id);
  // absorb removes node `last` and lets node `first` make its first output, where `first` made
  // the only value that `last` read of it.
  void absorb(std::size_t first, std::size_t last);
  // insert_after places a node behind node i once finish() is called.
  void insert_after(std::size_t i, Node node);
  // finish drops removed nodes and places inserted ones. The editor is not used afterwards.
  void finish();

 private:
  void grow();
  void unread(ValueId id, std::size_t i);

  Graph& graph_;
  Links links_;
  std::vector<std::pair<std::size_t, Node>> inserted_;
};

// sweep removes nodes whose outputs lead to no output of the network, and values and initialisers
// that nobody uses; values are renumbered. Returns the new number of each old value, or kNoValue.
std::vector<ValueId> sweep(Graph& graph);

}  // namespace slalom::importer
