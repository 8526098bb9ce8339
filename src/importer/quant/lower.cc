// SPDX-License-Identifier: Apache-2.0
#include "importer/quant/lower.h"

#include <algorithm>
#include <array>
#include <limits>

#include "importer/ops/op.h"

namespace slalom::importer {
namespace {

constexpr std::int64_t kMaxAxis = std::int64_t{1} << 20;  // as model::validate

Node origin_of(const Node& node) {
  Node origin;
  origin.name = node.name;
  origin.op = node.op;
  origin.opset = node.opset;
  return origin;
}

}  // namespace

Net lower(const Graph& graph, const Annotations& notes) { return Lowerer(graph, notes).run(); }

Lowerer::Lowerer(const Graph& graph, const Annotations& notes)
    : graph_(&graph), notes_(&notes), links_(link(graph)) {
  net_.name = graph.name;
}

Net Lowerer::run() {
  if (graph_->nodes.empty()) fail("the network has no operators");
  place_inputs();
  for (const Node& node : graph_->nodes) {
    if (final_function(node) != model::Final::kNone) continue;
    current_ = &node;
    try {
      lower_node(node);
    } catch (const Failure& failure) {
      throw Failure(blame(failure.error(), node));
    }
  }
  place_outputs();
  return std::move(net_);
}

void Lowerer::lower_node(const Node& node) {
  for (const auto family : {lower_linear, lower_unary, lower_binary, lower_pool, lower_movement}) {
    if (family(*this, node)) return;
  }
  fail("a plan has no such operator");
}

const Tensor& Lowerer::constant_input(const Node& node, std::size_t i) const {
  const Tensor* tensor = constant(node.input(i));
  if (tensor == nullptr) fail("input " + std::to_string(i + 1) + " must be a constant");
  return *tensor;
}

std::vector<std::int64_t> Lowerer::ints_input(const Node& node, std::size_t i) const {
  const Tensor& tensor = constant_input(node, i);
  std::vector<std::int64_t> values;
  if (tensor.dtype() == DType::kInt64) {
    const auto view = tensor.view<std::int64_t>();
    values.assign(view.begin(), view.end());
  } else if (tensor.dtype() == DType::kInt32) {
    const auto view = tensor.view<std::int32_t>();
    values.assign(view.begin(), view.end());
  } else {
    fail("input " + std::to_string(i + 1) + " must be a list of integers");
  }
  return values;
}

model::Shape Lowerer::shape_of(const Shape& shape, const Groups& groups) {
  std::array<std::int64_t, 3> axes = {1, 1, 1};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    for (const std::size_t dim : groups[axis]) {
      axes[axis] *= shape[dim];
      if (shape[dim] < 1 || axes[axis] > kMaxAxis) {
        fail("a value of the shape " + shape_text(shape) + " does not fit a plan");
      }
    }
  }
  return {static_cast<std::uint32_t>(axes[0]), static_cast<std::uint32_t>(axes[1]),
          static_cast<std::uint32_t>(axes[2])};
}

TensorIndex Lowerer::add_tensor(std::string name, model::Shape shape, ValueId value, View view) {
  NetTensor tensor{.name = std::move(name),
                   .shape = shape,
                   .value = value,
                   .view = std::move(view),
                   .fixed = std::nullopt};
  if (const auto note = notes_->quants.find(value); note != notes_->quants.end()) {
    tensor.fixed = note->second;
  }
  net_.tensors.push_back(std::move(tensor));
  return static_cast<TensorIndex>(net_.tensors.size() - 1);
}

TensorIndex Lowerer::append(const Node& node, std::vector<TensorIndex> inputs, NetOp op,
                            model::Shape shape, ValueId value, const Groups& groups) {
  View view = contiguous_view(this->shape(value), groups);
  const TensorIndex id = add_tensor(graph_->value(value).name, shape, value, view);
  net_.nodes.push_back({.name = node.name,
                        .origin = origin_of(node),
                        .inputs = std::move(inputs),
                        .output = id,
                        .op = std::move(op)});
  placed_[value] = {id, std::move(view)};
  return id;
}

TensorIndex Lowerer::append_unnamed(const Node& node, std::string_view what,
                                    std::vector<TensorIndex> inputs, NetOp op, model::Shape shape) {
  const std::string name = node.name + "/" + std::string(what);
  const TensorIndex id = add_tensor(name, shape, kNoValue, {});
  net_.nodes.push_back({.name = name,
                        .origin = origin_of(node),
                        .inputs = std::move(inputs),
                        .output = id,
                        .op = std::move(op)});
  return id;
}

void Lowerer::place_result(ValueId value, TensorIndex tensor, View view) {
  NetTensor& target = net_.tensors[tensor];
  target.name = graph_->value(value).name;
  target.value = value;
  target.view = view;
  if (const auto note = notes_->quants.find(value); note != notes_->quants.end()) {
    target.fixed = note->second;
  }
  placed_[value] = {tensor, std::move(view)};
}

TensorIndex Lowerer::add_constant(const Node& node, std::string_view name, model::Shape shape,
                                  std::vector<float> values) {
  const TensorIndex id = add_tensor(std::string(name), shape, kNoValue, {});
  net_.nodes.push_back({.name = std::string(name),
                        .origin = origin_of(node),
                        .inputs = {},
                        .output = id,
                        .op = NetConstant{std::move(values)}});
  return id;
}

void Lowerer::alias(const Node& node, ValueId value, const Placed& placed) {
  const auto note = notes_->quants.find(value);
  NetTensor& tensor = net_.tensors[placed.tensor];
  if (note == notes_->quants.end() || tensor.fixed == note->second) {
    placed_[value] = placed;
    return;
  }
  // The file gives this view a quantisation of its own.
  const TensorIndex id = add_tensor(graph_->value(value).name, tensor.shape, value, placed.view);
  net_.nodes.push_back({.name = node.name,
                        .origin = origin_of(node),
                        .inputs = {placed.tensor},
                        .output = id,
                        .op = NetUnary{}});
  placed_[value] = {id, placed.view};
}

Placed Lowerer::place_of(ValueId id) {
  if (id == kNoValue) fail("an input is missing");
  if (const auto it = placed_.find(id); it != placed_.end()) return it->second;
  const Tensor* tensor = constant(id);
  if (tensor == nullptr || tensor->dtype() != DType::kFloat32) {
    fail("it reads a value that is neither float nor constant");
  }
  const Groups groups = natural_groups(tensor->rank());
  const auto values = tensor->view<float>();
  const TensorIndex index =
      add_constant(*current_, graph_->value(id).name, shape_of(tensor->shape(), groups),
                   std::vector<float>(values.begin(), values.end()));
  if (const auto note = notes_->quants.find(id); note != notes_->quants.end()) {
    net_.tensors[index].fixed = note->second;
  }
  placed_[id] = {index, contiguous_view(tensor->shape(), groups)};
  return placed_[id];
}

TensorIndex Lowerer::move(TensorIndex from, NetOp op, model::Shape shape) {
  const bool transposes = std::holds_alternative<NetTranspose>(op);
  return append_unnamed(*current_, transposes ? "transposed" : "reshaped", {from}, std::move(op),
                        shape);
}

TensorIndex Lowerer::in_memory_order(const Placed& placed, const Groups& groups) {
  const model::Shape wanted = shape_of(view_shape(placed.view), groups);
  std::string key = std::to_string(placed.tensor) + ':' + std::to_string(wanted.h) + ',' +
                    std::to_string(wanted.w) + ',' + std::to_string(wanted.c);
  for (const Factor& factor : in_order(placed.view, groups)) {
    key += ';' + std::to_string(factor.size) + '*' + std::to_string(factor.stride);
  }
  if (const auto it = moved_.find(key); it != moved_.end()) return it->second;
  TensorIndex result =
      is_contiguous(placed.view, groups) ? placed.tensor : permuted(placed, groups);
  if (tensor_shape(result) != wanted) result = move(result, NetReshape{}, wanted);
  moved_[key] = result;
  return result;
}

// A permutation of factors is a series of moves to the end: memory (a, x, b) becomes (a, b, x),
// one Transpose of three axes. Up to three factors need one Transpose in all.
TensorIndex Lowerer::permuted(const Placed& placed, const Groups& groups) {
  const std::vector<Factor> wanted = in_order(placed.view, groups);
  std::vector<Factor> memory = wanted;
  const auto outer_first = [](const Factor& a, const Factor& b) { return a.stride > b.stride; };
  std::sort(memory.begin(), memory.end(), outer_first);
  TensorIndex now = placed.tensor;
  const auto transpose = [&](const std::array<std::int64_t, 3>& from,
                             const std::array<std::uint8_t, 3>& perm) {
    const auto narrow = [](std::int64_t n) {
      if (n > kMaxAxis) fail("a transposition is too large for a plan");
      return static_cast<std::uint32_t>(n);
    };
    const model::Shape shape{narrow(from[0]), narrow(from[1]), narrow(from[2])};
    if (tensor_shape(now) != shape) now = move(now, NetReshape{}, shape);
    now = move(now, NetTranspose{perm},
               {narrow(from[perm[0]]), narrow(from[perm[1]]), narrow(from[perm[2]])});
  };
  if (wanted.size() <= 3) {
    std::array<std::int64_t, 3> sizes = {1, 1, 1};
    std::array<std::uint8_t, 3> perm = {0, 1, 2};
    const std::size_t skip = 3 - wanted.size();
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      sizes[skip + i] = memory[i].size;
      const auto at = std::find(memory.begin(), memory.end(), wanted[i]) - memory.begin();
      perm[skip + i] = static_cast<std::uint8_t>(skip + static_cast<std::size_t>(at));
    }
    transpose(sizes, perm);
    return now;
  }
  for (const Factor& factor : wanted) {
    const auto at = std::find(memory.begin(), memory.end(), factor);
    const auto product = [](auto begin, auto end) {
      std::int64_t size = 1;
      for (auto it = begin; it != end; ++it) size *= it->size;
      return size;
    };
    const std::int64_t after = product(at + 1, memory.end());
    if (after > 1) transpose({product(memory.begin(), at), at->size, after}, {0, 2, 1});
    std::rotate(at, at + 1, memory.end());
  }
  return now;
}

Groups Lowerer::input_groups(ValueId id) const {
  const std::size_t rank = shape(id).size();
  if (rank != 4) return natural_groups(rank);
  // A network exported from a channels-last framework transposes its picture first.
  const auto& readers = links_.consumers[static_cast<std::size_t>(id)];
  const std::vector<std::int64_t> to_channels_first = {0, 3, 1, 2};
  const bool channels_last =
      !readers.empty() && std::all_of(readers.begin(), readers.end(), [&](std::size_t i) {
        return graph_->nodes[i].op == "Transpose" &&
               graph_->nodes[i].ints_or("perm", {}) == to_channels_first;
      });
  return channels_last ? natural_groups(rank) : image_groups(rank);
}

void Lowerer::place_inputs() {
  for (const ValueId id : graph_->inputs) {
    const Value& value = graph_->value(id);
    const bool codes = notes_->quants.count(id) != 0;
    if (value.dtype != DType::kFloat32 && !codes) {
      fail("the input '" + value.name + "' has the type " + std::string(dtype_name(value.dtype)) +
           "; only float32 is supported");
    }
    if (value.shape.empty()) fail("the input '" + value.name + "' is a scalar");
    const Groups groups = input_groups(id);
    View view = contiguous_view(value.shape, groups);
    const TensorIndex index = add_tensor(value.name, shape_of(value.shape, groups), id, view);
    net_.inputs.push_back(index);
    placed_[id] = {index, std::move(view)};
  }
}

// final_function: a Softmax or LogSoftmax over the classes that nobody but the caller reads is left
// to the caller; it does not change the order of the scores.
model::Final Lowerer::final_function(const Node& node) const {
  const bool plain = node.op == "Softmax";
  if (!plain && node.op != "LogSoftmax") return model::Final::kNone;
  const auto id = static_cast<std::size_t>(node.outputs.at(0));
  if (!links_.is_output[id] || !links_.consumers[id].empty()) return model::Final::kNone;
  const std::int64_t rank = std::ssize(shape(node.outputs[0]));
  std::int64_t axis = node.int_or("axis", node.opset >= 13 ? -1 : 1);
  if (axis < 0) axis += rank;
  // Classes are the last dimension, or the channels of an image.
  if (axis + 1 != rank && !(axis == 1 && rank <= 4)) return model::Final::kNone;
  return plain ? model::Final::kSoftmax : model::Final::kLogSoftmax;
}

// name_output gives a tensor that several values share the name by which the file calls the output.
void Lowerer::name_output(TensorIndex tensor, const std::string& name) {
  const bool named =
      std::find(net_.inputs.begin(), net_.inputs.end(), tensor) != net_.inputs.end() ||
      std::any_of(net_.outputs.begin(), net_.outputs.end(),
                  [&](const NetOutput& output) { return output.tensor == tensor; });
  if (!named) net_.tensors[tensor].name = name;
}

void Lowerer::place_outputs() {
  for (ValueId id : graph_->outputs) {
    model::Final function = model::Final::kNone;
    if (const std::size_t maker = links_.producer[static_cast<std::size_t>(id)]; maker != kNoNode) {
      current_ = &graph_->nodes[maker];
      function = final_function(*current_);
      if (function != model::Final::kNone) id = current_->input(0);
    }
    const Placed placed = place_of(id);
    const std::size_t rank = placed.view.size();
    Groups groups = natural_groups(rank);
    if (rank == 4 && !is_contiguous(placed.view, groups)) groups = image_groups(rank);
    const TensorIndex out = in_memory_order(placed, groups);
    name_output(out, graph_->value(id).name);
    net_.outputs.push_back({out, function});
  }
}

}  // namespace slalom::importer
