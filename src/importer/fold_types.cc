// SPDX-License-Identifier: Apache-2.0
#include "importer/fold_types.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "importer/graph_edit.h"
#include "importer/ops/constant.h"
#include "importer/ops/op.h"

namespace slalom::importer {
namespace {

// Two batch sizes that share no factor with each other nor, likely, with a fixed dimension.
constexpr std::int64_t kFirstBatch = 3;
constexpr std::int64_t kSecondBatch = 5;

std::size_t index(ValueId id) { return static_cast<std::size_t>(id); }

// Walk holds what is known of every value for one batch size.
struct Walk {
  std::vector<TensorType> types;                // by ValueId
  std::vector<std::optional<Tensor>> computed;  // by ValueId; initialisers are not repeated
};

class Walker {
 public:
  // `declared`, if not null, is the walk for the batch size `declared_batch` of the file.
  Walker(const Graph& graph, std::int64_t batch, FoldBudget& budget, const Walk* declared = nullptr,
         std::int64_t declared_batch = 0)
      : graph_(graph),
        batch_(batch),
        budget_(budget),
        declared_(declared),
        declared_batch_(declared_batch) {
    walk_.types.resize(graph.values.size());
    walk_.computed.resize(graph.values.size());
  }

  Walk walk() {
    for (const ValueId id : graph_.inputs) {
      const Value& value = graph_.value(id);
      TensorType type{.dtype = value.dtype, .shape = value.shape};
      if (value.batch_axis >= 0) type.shape[static_cast<std::size_t>(value.batch_axis)] *= batch_;
      walk_.types[index(id)] = std::move(type);
    }
    for (const auto& [id, tensor] : graph_.initialisers) {
      walk_.types[index(id)] = {.dtype = tensor.dtype(), .shape = tensor.shape()};
    }
    for (const Node& node : graph_.nodes) {
      try {
        visit(node);
      } catch (const Failure& failure) {
        throw Failure(blame(failure.error(), node));
      }
    }
    return std::move(walk_);
  }

 private:
  [[nodiscard]] const Tensor* known(ValueId id) const { return known_in(walk_, id); }

  [[nodiscard]] const Tensor* known_in(const Walk& walk, ValueId id) const {
    if (id == kNoValue) return nullptr;
    const auto& computed = walk.computed[index(id)];
    return computed ? &*computed : graph_.constant(id);
  }

  // lifted_target returns the target of a Reshape that names the declared batch size, with the
  // present one instead.
  [[nodiscard]] std::optional<Tensor> lifted_target(const Node& node) const {
    if (declared_ == nullptr || node.op != "Reshape") return std::nullopt;
    const Tensor* then = known_in(*declared_, node.inputs[1]);
    const Tensor* now = known(node.inputs[1]);
    if (then == nullptr || now == nullptr || *then != *now) return std::nullopt;
    if (now->dtype() != DType::kInt64 || now->size() == 0) return std::nullopt;
    const Shape& then_shape = declared_->types[index(node.inputs[0])].shape;
    const Shape& now_shape = walk_.types[index(node.inputs[0])].shape;
    if (then_shape.empty() || now_shape.empty() || then_shape[0] != declared_batch_ ||
        now->view<std::int64_t>()[0] != declared_batch_) {
      return std::nullopt;
    }
    Tensor target = *now;
    target.view<std::int64_t>()[0] = now_shape[0];
    return target;
  }

  void visit(const Node& node) {
    std::vector<OpInput> inputs(node.inputs.size());
    bool constant = true;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const ValueId id = node.inputs[i];
      if (id == kNoValue) continue;
      inputs[i] = {.present = true, .type = walk_.types[index(id)], .data = known(id)};
      constant = constant && inputs[i].data != nullptr;
    }
    const std::optional<Tensor> target = lifted_target(node);
    if (target) inputs[1].data = &*target;
    // Nothing of this size is allocated yet; compute() minds the budget.
    const auto types = infer_types(node, inputs, std::numeric_limits<std::int64_t>::max());
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] != kNoValue) walk_.types[index(node.outputs[i])] = types[i];
    }
    if (constant && find_op(node.op)->fold == FoldRule::kCheap) {
      compute(node, types);
    } else if (!node.inputs.empty() && node.inputs[0] != kNoValue) {
      walk_.computed[index(node.outputs[0])] =
          value_of_shape(node, walk_.types[index(node.inputs[0])].shape);
    }
  }

  void compute(const Node& node, const std::vector<TensorType>& types) {
    for (const TensorType& type : types) spend(element_count(type.shape), type.dtype);
    std::vector<const Tensor*> inputs;
    for (const ValueId id : node.inputs) {
      inputs.push_back(known(id));
      // Reductions read more than they write.
      if (inputs.back() != nullptr) {
        spend(static_cast<std::int64_t>(inputs.back()->size()), inputs.back()->dtype());
      }
    }
    auto results = evaluate(node, inputs, 1, budget_.bytes_left);
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] != kNoValue) {
        walk_.computed[index(node.outputs[i])] = std::move(results[i]);
      }
    }
  }

  void spend(std::int64_t elements, DType dtype) {
    const std::int64_t bytes = elements * static_cast<std::int64_t>(element_bytes(dtype)) + 64;
    if (bytes > budget_.bytes_left) fail("the constants of the network take too much to compute");
    budget_.bytes_left -= bytes;
  }

  const Graph& graph_;
  std::int64_t batch_;
  FoldBudget& budget_;
  const Walk* declared_;
  std::int64_t declared_batch_;
  Walk walk_;
};

// keep_constants makes initialisers of computed values and drops the nodes that made them.
void keep_constants(Graph& graph, Walk& walk) {
  for (std::size_t i = 0; i < walk.computed.size(); ++i) {
    if (!walk.computed[i]) continue;
    graph.initialisers.insert_or_assign(static_cast<ValueId>(i), std::move(*walk.computed[i]));
  }
  std::erase_if(graph.nodes, [&graph](const Node& node) {
    return std::all_of(node.outputs.begin(), node.outputs.end(), [&graph](ValueId id) {
      return id == kNoValue || graph.initialisers.contains(id);
    });
  });
}

// set_type compares the shapes of a value at both batch sizes; false if they do not fit a batch
// dimension.
bool set_type(Value& value, const TensorType& first, const TensorType& second) {
  if (first.dtype != second.dtype || first.shape.size() != second.shape.size()) return false;
  Shape shape = first.shape;
  int axis = -1;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    const std::int64_t each = first.shape[d] / kFirstBatch;
    if (first.shape[d] == second.shape[d]) continue;
    if (axis >= 0 || first.shape[d] != each * kFirstBatch ||
        second.shape[d] != each * kSecondBatch) {
      return false;
    }
    axis = static_cast<int>(d);
    shape[d] = each;
  }
  value.typed = true;
  value.dtype = first.dtype;
  value.shape = std::move(shape);
  value.batch_axis = axis;
  return true;
}

// plain_target gives a Reshape or Expand a target that holds for every batch size.
void plain_target(Graph& graph, Node& node) {
  const Value& in = graph.value(node.inputs[0]);
  const Value& out = graph.value(node.outputs[0]);
  std::vector<std::int64_t> target = out.shape;
  const bool reshape = node.op == "Reshape";
  // Zeros would mean "copy": networks with empty tensors keep what they have.
  if (reshape && std::find(target.begin(), target.end(), 0) != target.end()) return;
  if (out.batch_axis >= 0) {
    const auto axis = static_cast<std::size_t>(out.batch_axis);
    const bool same = in.batch_axis == out.batch_axis && in.shape[axis] == out.shape[axis];
    if (!reshape &&
        (in.batch_axis < 0 ||
         in.shape.size() - static_cast<std::size_t>(in.batch_axis) != out.shape.size() - axis)) {
      return;  // the batch comes from the target itself: reported with its other dependants
    }
    target[axis] = reshape ? (same ? 0 : -1) : 1;
  }
  node.attributes.erase("allowzero");
  const Tensor wanted = Tensor::of(Shape{static_cast<std::int64_t>(target.size())}, target);
  const Tensor* given = graph.constant(node.inputs[1]);
  if (given != nullptr && *given == wanted) return;
  node.inputs[1] = graph.add_initialiser(out.name + ".shape", wanted);
}

// squeeze_to_reshape gives a Squeeze that looks for ones a meaning that holds for a batch of one.
void squeeze_to_reshape(Graph& graph, Node& node) {
  if (node.inputs.size() > 1 || node.attributes.contains("axes")) return;
  const Value& out = graph.value(node.outputs[0]);
  if (element_count(out.shape) == 0) return;  // as plain_target
  node.op = "Reshape";
  node.inputs.push_back(graph.add_initialiser(out.name + ".shape", Tensor(DType::kInt64, {0})));
  plain_target(graph, node);
}

void plain_shapes(Graph& graph) {
  for (Node& node : graph.nodes) {
    if (node.op == "Reshape" || node.op == "Expand") plain_target(graph, node);
    if (node.op == "Squeeze") squeeze_to_reshape(graph, node);
  }
}

// check_independent fails if something is left that was computed from the batch size.
void check_independent(const Graph& graph, const std::vector<bool>& depends) {
  for (const Node& node : graph.nodes) {
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId id = node.inputs[i];
      if (id == kNoValue || !depends[index(id)]) continue;
      throw Failure(blame(Error{.what = "input " + std::to_string(i + 1) +
                                        " is computed from the size of the batch"},
                          node));
    }
  }
  for (const ValueId id : graph.outputs) {
    if (depends[index(id)]) {
      fail("the output '" + graph.value(id).name + "' is computed from the size of the batch");
    }
  }
}

[[noreturn]] void fail_shape(const Graph& graph, std::size_t i, const Walk& first,
                             const Walk& second) {
  const Error error{.what =
                        "the shape of the result is neither fixed nor proportional to the "
                        "batch: " +
                        shape_text(first.types[i].shape) + " for 3 images, " +
                        shape_text(second.types[i].shape) + " for 5"};
  const std::size_t maker = link(graph).producer[i];
  throw Failure(maker == kNoNode ? error : blame(error, graph.nodes[maker]));
}

}  // namespace

void fold_constants(Graph& graph, FoldBudget& budget) {
  Walk walk = Walker(graph, 1, budget).walk();
  for (std::size_t i = 0; i < graph.values.size(); ++i) {
    graph.values[i].typed = true;
    graph.values[i].dtype = walk.types[i].dtype;
    graph.values[i].shape = walk.types[i].shape;
  }
  keep_constants(graph, walk);
  sweep(graph);
}

void fold_constants_batched(Graph& graph, std::int64_t declared_batch, FoldBudget& budget) {
  Walk declared;
  if (declared_batch > 0) declared = Walker(graph, declared_batch, budget).walk();
  const Walk* base = declared_batch > 0 ? &declared : nullptr;
  Walk first = Walker(graph, kFirstBatch, budget, base, declared_batch).walk();
  const Walk second = Walker(graph, kSecondBatch, budget, base, declared_batch).walk();
  std::vector<bool> depends(graph.values.size(), false);
  for (std::size_t i = 0; i < graph.values.size(); ++i) {
    auto& computed = first.computed[i];
    if (computed && computed != second.computed[i]) {
      depends[i] = true;
      computed.reset();
    }
    // Shape arithmetic may do as it likes; what flows from image to answer may not.
    if (!set_type(graph.values[i], first.types[i], second.types[i]) && !depends[i]) {
      fail_shape(graph, i, first, second);
    }
  }
  keep_constants(graph, first);
  plain_shapes(graph);
  depends.resize(graph.values.size(), false);  // for the constants that this added
  const auto renamed = sweep(graph);
  std::vector<bool> left(graph.values.size(), false);
  for (std::size_t i = 0; i < renamed.size(); ++i) {
    if (renamed[i] != kNoValue) left[index(renamed[i])] = depends[i];
  }
  check_independent(graph, left);
}

}  // namespace slalom::importer
