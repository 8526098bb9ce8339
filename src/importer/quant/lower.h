// SPDX-License-Identifier: Apache-2.0
// lower turns a float graph into a Net: channels-last, the operators of a plan, batch 1.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "importer/graph.h"
#include "importer/quant/annotate.h"
#include "importer/quant/net.h"
#include "importer/quant/view.h"

namespace slalom::importer {

// lower returns the network of a folded graph without quantisation operators. The Net refers to
// the graph's constants, so the graph has to outlive it.
// Throws Failure for what a plan cannot express; the error names the node.
Net lower(const Graph& graph, const Annotations& notes);

// Placed is a graph value that lies in a tensor of the Net.
struct Placed {
  TensorIndex tensor = 0;
  View view;
};

// Lowerer holds what the operators of lower_*.cc work with.
class Lowerer {
 public:
  Lowerer(const Graph& graph, const Annotations& notes);
  Net run();

  [[nodiscard]] const Graph& graph() const noexcept { return *graph_; }
  [[nodiscard]] const Annotations& notes() const noexcept { return *notes_; }
  [[nodiscard]] const Shape& shape(ValueId id) const { return graph_->value(id).shape; }
  [[nodiscard]] const Tensor* constant(ValueId id) const { return graph_->constant(id); }
  // The constant at input i as numbers; fails if it is no constant or left out.
  [[nodiscard]] const Tensor& constant_input(const Node& node, std::size_t i) const;
  [[nodiscard]] std::vector<std::int64_t> ints_input(const Node& node, std::size_t i) const;

  // place_of returns where a value is; a constant gets a Constant node first.
  Placed place_of(ValueId id);
  [[nodiscard]] const model::Shape& tensor_shape(TensorIndex id) const {
    return net_.tensors[id].shape;
  }

  // in_memory_order returns a tensor that holds the value in the order of the groups, with the
  // shape that they give; codes are moved if need be.
  TensorIndex in_memory_order(const Placed& placed, const Groups& groups);

  // append adds a node that writes `shape` and returns its tensor; the graph value that the result
  // holds comes with its groups.
  TensorIndex append(const Node& node, std::vector<TensorIndex> inputs, NetOp op,
                     model::Shape shape, ValueId value, const Groups& groups);
  // append_unnamed is the same for an intermediate result that is no value of the graph.
  TensorIndex append_unnamed(const Node& node, std::string_view what,
                             std::vector<TensorIndex> inputs, NetOp op, model::Shape shape);
  // place_result says where a value lies in such a result.
  void place_result(ValueId value, TensorIndex tensor, View view);
  // alias says that a value is another view of a tensor.
  void alias(const Node& node, ValueId value, const Placed& placed);
  // add_constant makes a Constant node.
  TensorIndex add_constant(const Node& node, std::string_view name, model::Shape shape,
                           std::vector<float> values);

  // shape_of gives the plan's shape of a value under groups; fails above 2^32.
  static model::Shape shape_of(const Shape& shape, const Groups& groups);

 private:
  void lower_node(const Node& node);
  void place_inputs();
  void place_outputs();
  void name_output(TensorIndex tensor, const std::string& name);
  [[nodiscard]] Groups input_groups(ValueId id) const;
  [[nodiscard]] model::Final final_function(const Node& node) const;
  TensorIndex permuted(const Placed& placed, const Groups& groups);
  TensorIndex move(TensorIndex from, NetOp op, model::Shape shape);
  TensorIndex add_tensor(std::string name, model::Shape shape, ValueId value, View view);

  const Graph* graph_;
  const Annotations* notes_;
  Links links_;
  Net net_;
  std::map<ValueId, Placed> placed_;
  std::map<std::string, TensorIndex> moved_;
  const Node* current_ = nullptr;
};

// The operators, by family. Each returns false if the operator is not one of its own.
bool lower_linear(Lowerer& lowerer, const Node& node);
bool lower_unary(Lowerer& lowerer, const Node& node);
bool lower_binary(Lowerer& lowerer, const Node& node);
bool lower_pool(Lowerer& lowerer, const Node& node);
bool lower_movement(Lowerer& lowerer, const Node& node);
void lower_pad(Lowerer& lowerer, const Node& node);

// axis_of gives an axis that may count from the end its number; fails if there is no such axis.
std::size_t axis_of(std::int64_t axis, std::size_t rank);

// single_axis_groups are groups of the value's present memory order in which each of the given
// dimensions has an axis to itself; an order with such axes if there is none.
Groups single_axis_groups(const Lowerer& lowerer, const Placed& placed,
                          const std::vector<std::size_t>& dims);

// axis_with is the axis that a dimension belongs to.
std::size_t axis_with(const Groups& groups, std::size_t dim);

// u32 fails if the value is negative or above 2^20.
std::uint32_t u32(std::int64_t value, const char* what);

// window_of reads kernel_shape, strides, dilations and pads, which fold() has resolved, for one or
// two spatial dimensions; a single one runs along w.
model::Window window_of(const Node& node, std::size_t dims);

// split_padding turns padding that a plan's window cannot hold (as wide as the kernel's reach) into
// a Pad node with real value 0; returns the tensor to read.
TensorIndex split_padding(Lowerer& lowerer, const Node& node, TensorIndex in,
                          model::Window& window);

}  // namespace slalom::importer
